"""Freezing the lower part of an encoder, for training what comes after it."""

from minissl.backend import Array
from minissl.models.backbone import Backbone
from minissl.nn import Module
from minissl.nn.module import Parameter
from minissl.tensor import Tensor


def freezable(encoder: Module) -> tuple[str, ...]:
    """What `freeze` takes for this encoder: "none", the stages of a Backbone, and "all"."""
    return ("none", *(encoder.stages if isinstance(encoder, Backbone) else ()), "all")


def freeze(encoder: Module, stage: str, x: Array) -> None:
    """Let no parameter learn on which the output of `stage` depends: "none", a stage of a Backbone, or "all".

    x: a prepared image (1, H, W, C), of any values. Which parameters these are, the graph says: those that receive a
    gradient from the stage. Raises ValueError for another stage. See `eval_frozen` for what else has to stand still.
    """
    if stage not in freezable(encoder):
        raise ValueError(
            f"freeze: expected one of {', '.join(freezable(encoder))} for {type(encoder).__name__}, got {stage!r}"
        )
    for parameter in encoder.parameters() if stage == "all" else _needed(encoder, stage, x):
        parameter.requires_grad = False


def _needed(encoder: Module, stage: str, x: Array) -> list[Parameter]:
    """The parameters on which the output of a stage depends."""
    if stage == "none":
        return []
    assert isinstance(encoder, Backbone)
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.zero_grad()
    encoder.eval().features(Tensor(x), stage).sum().backward()  # in training BatchNorm would average x in
    for module, training in modes:
        module.training = training
    needed = [parameter for parameter in encoder.parameters() if parameter.grad is not None]
    encoder.zero_grad()
    return needed


def eval_frozen(network: Module) -> None:
    """Put into evaluation mode every part of `network` whose parameters are all frozen, after `network.train()`.

    A frozen BatchNorm would else go on averaging what it sees, and dropout go on dropping.
    """
    for module in network.modules():
        parameters = module.parameters()
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
