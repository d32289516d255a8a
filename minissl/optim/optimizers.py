"""Update rules: w from its gradient g. Each rule stands once, as plain arithmetic on arrays, updated in place."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from minissl import backend
from minissl.backend import Array
from minissl.nn import Module, Parameter


class Optimizer:
    """What all rules share: parameters in groups, their state, and its names for checkpoints.

    parameters: parameters, or groups of them, [{"parameters": [...], "weight_decay": 0.0}, ...], whose other entries
    override the optimizer's own. `learning_rate` may be set before every step (see `optim.schedules`); a group's own
    "rate" multiplies it. Parameters without a gradient are left alone. State is one array per name in `slots`, and in
    `steps` how often each parameter was updated.

    Gradients add up until `zero_grad`: N times backward on (loss / N) of a small batch each, then one step, is the step
    of one batch N times as large (where the loss is a mean over images, and no layer mixes them as BatchNorm does).
    """

    slots: tuple[str, ...] = ()

    def __init__(
        self, parameters: Iterable[Parameter] | Iterable[dict[str, Any]], learning_rate: float, **defaults: Any
    ) -> None:
        entries = list(parameters)
        if not entries:
            raise ValueError(f"{type(self).__name__}: expected at least one parameter, got none")
        groups = entries if isinstance(entries[0], dict) else [{"parameters": entries}]
        known = {"parameters", "rate", *defaults}
        if wrong := {key for group in groups for key in group} - known:  # type: ignore[attr-defined]
            raise ValueError(f"{type(self).__name__}: a group may have {sorted(known)}, got {sorted(wrong)}")
        self.learning_rate = learning_rate
        self.groups: list[dict[str, Any]] = [{"rate": 1.0} | defaults | group for group in groups]  # type: ignore[operator]
        self.state: list[dict[str, Array]] = [
            {slot: backend.of(p.data).xp.zeros_like(p.data) for slot in self.slots} for p, _ in self._parameters()
        ]
        self.steps = [0] * len(self.state)
        self.before_step: Callable[[], None] | None = None

    def _parameters(self) -> list[tuple[Parameter, dict[str, Any]]]:
        return [(parameter, group) for group in self.groups for parameter in group["parameters"]]

    def step(self) -> None:
        """Update every parameter that has a gradient, after `before_step`, which may change gradients."""
        if self.before_step is not None:
            self.before_step()
        for i, (parameter, group) in enumerate(self._parameters()):
            if parameter.grad is not None:
                self.steps[i] += 1
                self.update(parameter, self.state[i], self.learning_rate * group["rate"], group, self.steps[i])

    def update(self, parameter: Parameter, state: dict[str, Array], rate: float, group: dict[str, Any], t: int) -> None:
        """Update one parameter and its state for the t-th time, in one pass over its arrays."""
        arrays = [parameter.data, parameter.grad, *state.values()]
        backend.of(parameter.data).update(self.rule(parameter, rate, group, t), *arrays)

    def rule(self, parameter: Parameter, rate: float, group: dict[str, Any], t: int) -> Callable[..., None]:
        """The t-th update of one parameter: a function of w, g and state arrays that writes into w and the state."""
        raise TypeError(f"{type(self).__name__} has no rule; use SGD, LARS, Adam or AdamW")

    def zero_grad(self) -> None:
        for parameter, _ in self._parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, Array]:
        """The state arrays, named "momentum.3" for the third parameter and so on. They are in use, not copies."""
        return {f"{slot}.{i}": array for i, state in enumerate(self.state) for slot, array in state.items()}

    def load_state_dict(self, arrays: Mapping[str, Array], steps: Sequence[int]) -> None:
        """Copy saved state arrays and `steps` in. Raises ValueError when names, shapes or their number differ."""
        own = self.state_dict()
        shapes = lambda named: {name: tuple(array.shape) for name, array in named.items()}
        if shapes(own) != shapes(arrays) or len(steps) != len(self.steps):
            raise ValueError(f"{type(self).__name__}: the saved state belongs to other parameters or another optimizer")
        for name, array in own.items():
            array[...] = backend.of(array).to_device(arrays[name])
        self.steps = list(steps)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum:  v ← μv + g + λw,  w ← w − ηv;  Nesterov:  w ← w − η(g + λw + μv)."""

    slots = ("momentum",)

    def __init__(
        self,
        parameters: Any,
        learning_rate: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(parameters, learning_rate, weight_decay=weight_decay)
        self.momentum, self.nesterov = momentum, nesterov

    def rule(self, parameter: Parameter, rate: float, group: dict[str, Any], t: int) -> Callable[..., None]:
        mu, decay = self.momentum, group["weight_decay"]

        def sgd(w: Array, g: Array, v: Array) -> None:
            g = g + decay * w
            v *= mu
            v += g
            w -= rate * (g + mu * v if self.nesterov else v)

        return sgd


class LARS(SGD):
    """SGD whose step is proportional to each weight's own norm:  η_w = η·φ‖w‖/(‖g + λw‖),  for very large batches.

    Vectors (biases and norm layers) take plain SGD without decay. (You et al., 2017, "Large Batch Training")
    """

    def __init__(
        self,
        parameters: Any,
        learning_rate: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        super().__init__(parameters, learning_rate, momentum, weight_decay)
        self.trust = trust

    def rule(self, parameter: Parameter, rate: float, group: dict[str, Any], t: int) -> Callable[..., None]:
        if parameter.ndim < 2:
            return super().rule(parameter, rate, group | {"weight_decay": 0.0}, t)
        w, xp = parameter.data, backend.of(parameter.data).xp
        step_norm = xp.linalg.norm(parameter.grad + group["weight_decay"] * w)
        scale = self.trust * xp.linalg.norm(w) / xp.maximum(step_norm, 1e-12)
        scale = xp.where(scale > 0, scale, xp.ones_like(scale))  # weights that are all 0 still move

        mu, decay = self.momentum, group["weight_decay"]

        def lars(w: Array, g: Array, v: Array) -> None:
            v *= mu
            v += scale * (g + decay * w)
            w -= rate * v

        return lars


class Adam(Optimizer):
    """m ← β₁m + (1−β₁)g,  s ← β₂s + (1−β₂)g²,  w ← w − η m̂/(√ŝ + ε),  m̂ = m/(1−β₁ᵗ),  ŝ = s/(1−β₂ᵗ).

    Weight decay is added to the gradient, g + λw. (Kingma and Ba, 2015, "Adam")
    """

    slots = ("mean", "square")
    decoupled = False

    def __init__(
        self,
        parameters: Any,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate, weight_decay=weight_decay)
        self.betas, self.epsilon = betas, epsilon

    def rule(self, parameter: Parameter, rate: float, group: dict[str, Any], t: int) -> Callable[..., None]:
        (beta1, beta2), epsilon, decay = self.betas, self.epsilon, group["weight_decay"]
        correct1, correct2 = 1 - beta1**t, 1 - beta2**t

        def adam(w: Array, g: Array, m: Array, s: Array) -> None:
            if self.decoupled:
                w *= 1 - rate * decay
            elif decay:
                g = g + decay * w
            average(m, g, beta1)
            average(s, g * g, beta2)
            w -= (rate / correct1) * m / ((s / correct2) ** 0.5 + epsilon)

        return adam


class AdamW(Adam):
    """Adam with weight decay taken off the weights themselves, w ← w − ηλw, not mixed into the averages.

    (Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization")
    """

    decoupled = True


class LAMB(Adam):
    """Adam whose step is proportional to each weight's own norm:  r = m̂/(√ŝ + ε) + λw,  w ← w − η ‖w‖/‖r‖ r.

    Vectors (biases and norm layers) take plain Adam without decay, as with LARS; so does a weight that is all 0.
    (You et al., 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes")
    """

    def __init__(
        self,
        parameters: Any,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate, betas, epsilon, weight_decay)

    def update(self, parameter: Parameter, state: dict[str, Array], rate: float, group: dict[str, Any], t: int) -> None:
        if parameter.ndim < 2:
            return super().update(parameter, state, rate, group | {"weight_decay": 0.0}, t)
        (beta1, beta2), epsilon, decay = self.betas, self.epsilon, group["weight_decay"]
        correct1, correct2 = 1 - beta1**t, 1 - beta2**t

        def averages(g: Array, m: Array, s: Array) -> None:
            average(m, g, beta1)
            average(s, g * g, beta2)

        def direction(w: Array, m: Array, s: Array) -> Array:
            return (m / correct1) / ((s / correct2) ** 0.5 + epsilon) + decay * w

        home, w, (m, s) = backend.of(parameter.data), parameter.data, state.values()
        home.update(averages, parameter.grad, m, s)
        r = home.elementwise(direction, w, m, s)
        scale = home.xp.linalg.norm(w) / home.xp.maximum(home.xp.linalg.norm(r), 1e-12)  # of the whole weight: 2 passes
        scale = home.xp.where(scale > 0, scale, home.xp.ones_like(scale))

        def lamb(w: Array, r: Array) -> None:
            w -= rate * scale * r

        home.update(lamb, w, r)


def average(old: Array, new: Array, momentum: float) -> None:
    """old ← momentum·old + (1 − momentum)·new, in place."""
    old *= momentum
    old += (1 - momentum) * new


def decay_groups(module: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: matrices and kernels with weight decay; biases and norm layers without."""
    matrices = [p for p in module.parameters() if p.ndim > 1]
    vectors = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"parameters": matrices, "weight_decay": weight_decay}, {"parameters": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["parameters"]]
