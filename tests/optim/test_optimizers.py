"""Update rules against their formulas, written as plain loops, and against PyTorch; schedules and states."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minissl import backend, models, optim
from minissl.backend.cpu import threads
from minissl.nn import Parameter

SHAPES = [(3, 4), (4,), (2, 2, 1, 3)]
STEPS = 5


def start() -> list[Parameter]:
    rng = np.random.default_rng(0)
    return [Parameter(rng.normal(size=shape)) for shape in SHAPES]


def gradients(seed: int = 1) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [[rng.normal(size=shape) for shape in SHAPES] for _ in range(STEPS)]


def run(optimizer: optim.Optimizer, parameters: list[Parameter], steps: list[list[np.ndarray]]) -> list[np.ndarray]:
    for each in steps:
        for parameter, g in zip(parameters, each, strict=True):
            parameter.grad = g.copy()
        optimizer.step()
    return [parameter.data for parameter in parameters]


def by_loops(rule: Callable[..., float], slots: int) -> list[np.ndarray]:
    """rule(w, g, state, t) for one number at a time; `state` is a list that it changes."""
    results = []
    for i, parameter in enumerate(start()):
        w = parameter.data.ravel().tolist()
        states = [[0.0] * slots for _ in w]
        for t, each in enumerate(gradients(), 1):
            w = [rule(w[j], float(each[i].flat[j]), states[j], t) for j in range(len(w))]
        results.append(np.array(w).reshape(parameter.shape))
    return results


def sgd(rate: float, mu: float, decay: float, nesterov: bool) -> Callable[..., float]:
    def rule(w: float, g: float, state: list[float], t: int) -> float:
        g = g + decay * w
        state[0] = mu * state[0] + g
        return w - rate * (g + mu * state[0]) if nesterov else w - rate * state[0]

    return rule


def adam(rate: float, betas: tuple[float, float], epsilon: float, decay: float, decoupled: bool) -> Any:
    def rule(w: float, g: float, state: list[float], t: int) -> float:
        if decoupled:
            w = w - rate * decay * w
        else:
            g = g + decay * w
        state[0] = betas[0] * state[0] + (1 - betas[0]) * g
        state[1] = betas[1] * state[1] + (1 - betas[1]) * g**2
        m, s = state[0] / (1 - betas[0] ** t), state[1] / (1 - betas[1] ** t)
        return w - rate * m / (math.sqrt(s) + epsilon)

    return rule


CASES: dict[str, tuple[Callable[..., optim.Optimizer], Callable[..., float], int]] = {
    "SGD": (lambda p: optim.SGD(p, 0.1, 0.0), sgd(0.1, 0, 0, False), 1),
    "momentum": (lambda p: optim.SGD(p, 0.1), sgd(0.1, 0.9, 0, False), 1),
    "decay": (lambda p: optim.SGD(p, 0.1, 0.8, 0.05), sgd(0.1, 0.8, 0.05, False), 1),
    "Nesterov": (lambda p: optim.SGD(p, 0.1, 0.8, 0.05, nesterov=True), sgd(0.1, 0.8, 0.05, True), 1),
    "Adam": (lambda p: optim.Adam(p), adam(1e-3, (0.9, 0.999), 1e-8, 0, False), 2),
    "Adam, decay": (
        lambda p: optim.Adam(p, 0.1, (0.7, 0.9), 1e-3, 0.05),
        adam(0.1, (0.7, 0.9), 1e-3, 0.05, False),
        2,
    ),
    "AdamW": (lambda p: optim.AdamW(p, 0.1, (0.7, 0.9), 1e-3, 0.05), adam(0.1, (0.7, 0.9), 1e-3, 0.05, True), 2),
}

every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_five_steps_equal_the_formula(case: str) -> None:
    make, rule, slots = CASES[case]
    parameters = start()
    for found, expected in zip(run(make(parameters), parameters, gradients()), by_loops(rule, slots), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@every_case
def test_five_steps_equal_pytorch(case: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    same: dict[str, Callable[..., Any]] = {
        "SGD": lambda p: torch.optim.SGD(p, 0.1),
        "momentum": lambda p: torch.optim.SGD(p, 0.1, 0.9),
        "decay": lambda p: torch.optim.SGD(p, 0.1, 0.8, weight_decay=0.05),
        "Nesterov": lambda p: torch.optim.SGD(p, 0.1, 0.8, weight_decay=0.05, nesterov=True),
        "Adam": lambda p: torch.optim.Adam(p),
        "Adam, decay": lambda p: torch.optim.Adam(p, 0.1, (0.7, 0.9), 1e-3, 0.05),
        "AdamW": lambda p: torch.optim.AdamW(p, 0.1, (0.7, 0.9), 1e-3, 0.05),
    }
    parameters = start()
    theirs = [torch.nn.Parameter(torch.from_numpy(parameter.data.copy())) for parameter in parameters]
    optimizer = same[case](theirs)
    for each in gradients():
        for parameter, g in zip(theirs, each, strict=True):
            parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
    for found, expected in zip(run(CASES[case][0](parameters), parameters, gradients()), theirs, strict=True):
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-6, atol=1e-9)


def test_lars_equals_its_formula() -> None:
    rate, mu, decay, trust = 0.5, 0.8, 0.05, 0.02
    parameters = start()
    found = run(optim.LARS(parameters, rate, mu, decay, trust), parameters, gradients())
    for i, parameter in enumerate(start()):
        w, v = parameter.data.copy(), np.zeros(parameter.shape)
        for each in gradients():
            g, scale = each[i], 1.0
            if w.ndim > 1:
                g = g + decay * w
                scale = trust * math.sqrt((w * w).sum()) / math.sqrt((g * g).sum())
            v = mu * v + scale * g
            w = w - rate * v
        np.testing.assert_allclose(found[i], w, rtol=1e-12)


def test_a_step_of_lars_does_not_depend_on_the_size_of_the_gradient() -> None:
    results = []
    for scale in (1, 1000):
        parameters = [Parameter(np.full((2, 2), 3.0))]
        results.append(run(optim.LARS(parameters, 0.1), parameters, [[scale * np.array([[1.0, 2], [3, 4]])]])[0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)


def test_weights_of_zero_and_gradients_of_zero_are_no_trouble_for_lars() -> None:
    zero, still = Parameter(np.zeros((2, 2))), Parameter(np.ones((2, 2)))
    run(optim.LARS([zero, still], 0.1), [zero, still], [[np.ones((2, 2)), np.zeros((2, 2))]])
    np.testing.assert_allclose(zero.data, -0.1)
    np.testing.assert_array_equal(still.data, 1)


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_lamb_equals_its_formula(decay: float) -> None:
    rate, (beta1, beta2), epsilon = 0.1, (0.7, 0.9), 1e-3
    parameters = start()
    found = run(optim.LAMB(parameters, rate, (beta1, beta2), epsilon, decay), parameters, gradients())
    for i, parameter in enumerate(start()):
        w, m, s = (np.array(parameter.data), np.zeros(parameter.shape), np.zeros(parameter.shape))
        for t, each in enumerate(gradients(), 1):
            r, matrix = np.zeros(w.shape), w.ndim > 1
            for j in np.ndindex(w.shape):
                m[j] = beta1 * m[j] + (1 - beta1) * each[i][j]
                s[j] = beta2 * s[j] + (1 - beta2) * each[i][j] ** 2
                r[j] = m[j] / (1 - beta1**t) / (math.sqrt(s[j] / (1 - beta2**t)) + epsilon)
                r[j] += decay * w[j] if matrix else 0
            w = w - rate * (math.sqrt((w * w).sum()) / math.sqrt((r * r).sum()) if matrix else 1) * r
        np.testing.assert_allclose(found[i], w, rtol=1e-12)


def test_a_step_of_lamb_is_a_share_of_the_weights_norm() -> None:
    for size in (1e-3, 1.0, 1e3):
        w = Parameter(size * np.random.default_rng(0).normal(size=(4, 5)))
        before = w.data.copy()
        run(optim.LAMB([w], 0.01), [w], [[np.random.default_rng(1).normal(size=(4, 5))]])
        np.testing.assert_allclose(np.linalg.norm(w.data - before), 0.01 * np.linalg.norm(before), rtol=1e-9)


def test_weights_of_zero_and_gradients_of_zero_are_no_trouble_for_lamb() -> None:
    zero, still = Parameter(np.zeros((2, 2))), Parameter(np.ones((2, 2)))
    run(optim.LAMB([zero, still], 0.1), [zero, still], [[np.ones((2, 2)), np.zeros((2, 2))]])
    np.testing.assert_allclose(zero.data, -0.1, rtol=1e-5)
    np.testing.assert_array_equal(still.data, 1)


EVERY_KIND = {name: make for name, (make, _, _) in CASES.items()} | {
    "LARS": lambda p: optim.LARS(p, 0.5, 0.8, 0.05),
    "LAMB": lambda p: optim.LAMB(p, 0.1, weight_decay=0.05),
}
every_kind = pytest.mark.parametrize("kind", EVERY_KIND)


@every_kind
def test_slice_by_slice_is_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = start()
    run(EVERY_KIND[kind](whole), whole, gradients())
    monkeypatch.setattr(threads, "WORTH_SPLITTING", 1)
    monkeypatch.setattr(threads, "CHUNK", 5)
    sliced = start()
    run(EVERY_KIND[kind](sliced), sliced, gradients())
    for a, b in zip(whole, sliced, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@every_kind
def test_float32_stays_float32_and_gradients_and_arrays_stay_in_place(kind: str) -> None:
    parameters = [Parameter(parameter.data.astype("float32")) for parameter in start()]
    arrays = [parameter.data for parameter in parameters]
    optimizer = EVERY_KIND[kind](parameters)
    for parameter in parameters:
        parameter.grad = np.ones(parameter.shape, "float32")
    optimizer.step()
    for parameter, array in zip(parameters, arrays, strict=True):
        assert parameter.data is array and array.dtype == "float32"
        np.testing.assert_array_equal(parameter.grad, 1)
    assert {array.dtype.name for array in optimizer.state_dict().values()} <= {"float32"}


@every_kind
def test_a_saved_state_continues_bit_for_bit(kind: str) -> None:
    straight = start()
    run(EVERY_KIND[kind](straight), straight, gradients(1) + gradients(2))
    first = start()
    optimizer = EVERY_KIND[kind](first)
    run(optimizer, first, gradients(1))
    saved = {name: array.copy() for name, array in optimizer.state_dict().items()}
    second = [Parameter(parameter.data.copy()) for parameter in first]
    resumed = EVERY_KIND[kind](second)
    resumed.load_state_dict(saved, optimizer.steps)
    for array in saved.values():
        array[...] = np.nan  # loading copied
    run(resumed, second, gradients(2))
    for a, b in zip(straight, second, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@every_kind
def test_cupy_takes_the_same_steps(kind: str, cupy: backend.Backend) -> None:
    here, there = start(), start()
    for parameter in there:
        parameter.data = cupy.to_device(parameter.data)
    on_device = [[cupy.to_device(g) for g in each] for each in gradients()]
    expected, found = run(EVERY_KIND[kind](here), here, gradients()), run(EVERY_KIND[kind](there), there, on_device)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(cupy.to_host(b), a, rtol=1e-10)


def test_state_is_named_by_slot_and_number() -> None:
    assert list(optim.SGD(start(), 0.1).state_dict()) == ["momentum.0", "momentum.1", "momentum.2"]
    assert set(optim.Adam(start()).state_dict()) == {f"{slot}.{i}" for slot in ("mean", "square") for i in range(3)}


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen", "another optimizer"])
def test_a_state_of_other_parameters_is_refused_and_changes_nothing(change: str) -> None:
    optimizer = optim.SGD(start(), 0.1)
    state = {name: array + 1 for name, array in optimizer.state_dict().items()}
    if change == "missing":
        del state["momentum.1"]
    elif change == "unexpected":
        state["momentum.3"] = np.ones(2)
    elif change == "misshapen":
        state["momentum.0"] = np.ones((4, 3))
    else:
        state = optim.Adam(start()).state_dict()
    with pytest.raises(ValueError, match="SGD: the saved state belongs to other parameters"):
        optimizer.load_state_dict(state, [7] * 3)
    assert optimizer.steps == [0] * 3 and not any(array.any() for array in optimizer.state_dict().values())


@every_kind
def test_a_parameter_without_a_gradient_is_left_alone(kind: str) -> None:
    parameters = start()
    before = [parameter.data.copy() for parameter in parameters]
    optimizer = EVERY_KIND[kind](parameters)
    parameters[0].grad = np.ones(parameters[0].shape)
    optimizer.step()
    assert (parameters[0].data != before[0]).any()
    np.testing.assert_array_equal(parameters[1].data, before[1])
    assert not any(array.any() for name, array in optimizer.state_dict().items() if not name.endswith(".0"))


@every_kind
def test_a_parameter_that_joins_later_starts_as_from_the_beginning(kind: str) -> None:
    """Adam's corrections count a parameter's own updates: others may have learned for long when it begins to."""
    early, late = start(), start()
    run(EVERY_KIND[kind](early), early, gradients(1))
    optimizer = EVERY_KIND[kind](late)
    for _ in range(50):
        late[0].grad = np.ones(late[0].shape)
        optimizer.step()
    optimizer.zero_grad()
    run(optimizer, late, gradients(1))
    np.testing.assert_array_equal(late[1].data, early[1].data)


def test_zero_grad_clears_the_gradients_of_all_groups() -> None:
    a, b = Parameter([1.0]), Parameter([1.0])
    optimizer = optim.SGD([{"parameters": [a]}, {"parameters": [b]}], 0.1)
    a.grad = b.grad = np.ones(1, "float32")
    optimizer.zero_grad()
    assert a.grad is None and b.grad is None


def test_a_group_overrides_the_decay_and_scales_the_rate() -> None:
    a, b, c = (Parameter(np.array([2.0])) for _ in range(3))
    groups = [{"parameters": [a]}, {"parameters": [b], "weight_decay": 0.0}, {"parameters": [c], "rate": 10.0}]
    optimizer = optim.SGD(groups, 0.1, momentum=0.0, weight_decay=0.5)
    run(optimizer, [a, b, c], [[np.ones(1)] * 3])
    np.testing.assert_allclose([a.data, b.data, c.data], [[2 - 0.1 * 2], [2 - 0.1], [2 - 1.0 * 2]])


def test_the_rate_may_change_between_steps() -> None:
    w = Parameter(np.array([0.0]))
    optimizer = optim.SGD([w], 1.0, momentum=0.0)
    run(optimizer, [w], [[np.ones(1)]])
    optimizer.learning_rate = 0.25
    run(optimizer, [w], [[np.ones(1)]])
    np.testing.assert_array_equal(w.data, [-1.25])
    assert optimizer.steps == [2]


def test_parameters_may_come_from_a_generator() -> None:
    assert len(optim.SGD((parameter for parameter in start()), 0.1).state) == 3


@pytest.mark.parametrize("kind", [optim.SGD, optim.LARS, optim.Adam, optim.AdamW, optim.LAMB])
def test_no_parameters_is_an_error(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: expected at least one parameter"):
        kind([], 0.1)


def test_an_optimizer_without_a_rule_says_so() -> None:
    parameters = start()
    with pytest.raises(TypeError, match="Optimizer has no rule"):
        run(optim.Optimizer(parameters, 0.1), parameters, gradients())


def test_only_matrices_and_kernels_decay() -> None:
    net = models.resnet18(4)
    with_decay, without = optim.decay_groups(net, 0.1)
    assert (with_decay["weight_decay"], without["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert {names[id(p)] for p in with_decay["parameters"]} == {
        name for name in names.values() if "conv" in name or name.endswith("downsample.0.weight")
    }
    assert len(with_decay["parameters"]) + len(without["parameters"]) == len(names)


def test_a_group_that_would_be_empty_is_left_out() -> None:
    net = models.mlp(3, 2)
    net.bias = None
    vars(vars(net)["0"])["bias"] = None
    assert [group["weight_decay"] for group in optim.decay_groups(net, 0.1)] == [0.1]


def test_warmup_rises_to_the_peak_and_the_cosine_falls_to_zero() -> None:
    factors = [optim.warmup_cosine(step, 100, 10) for step in range(101)]
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    assert factors[10] == 1 and abs(factors[100]) < 1e-12
    assert factors[55] == pytest.approx(0.5) and factors[10 + 30] == pytest.approx(0.75)
    assert all(a < b for a, b in itertools.pairwise(factors[:10]))
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert optim.warmup_cosine(0, 10) == 1
    assert optim.warmup_cosine(0, 0) == 1


def test_a_run_that_is_all_warmup() -> None:
    assert [optim.warmup_cosine(step, 4, 4) for step in range(4)] == [0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(("steps", "warmup"), [(10, 11), (10, -1), (-1, 0)])
def test_a_warmup_that_does_not_fit_is_an_error(steps: int, warmup: int) -> None:
    with pytest.raises(ValueError, match="warmup_cosine: expected 0 <= warmup <= steps"):
        optim.warmup_cosine(0, steps, warmup)


def test_the_rate_falls_at_each_milestone() -> None:
    factors = [optim.step_decay(step, [3, 5], 0.1) for step in range(7)]
    np.testing.assert_allclose(factors, [1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert [optim.step_decay(step, (5, 3), 0.1) for step in range(7)] == factors
    assert optim.step_decay(100, [], 0.1) == 1
    with pytest.raises(ValueError, match="step_decay: expected a positive factor, got 0"):
        optim.step_decay(0, [1], 0)
