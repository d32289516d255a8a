"""Prototypes: unit rows at the start and after each `renormalize`, and scores that are cosines."""

import numpy as np
import pytest

from minissl import backend, optim, random
from minissl.gradcheck import gradcheck
from minissl.nn import Prototypes
from minissl.tensor import Tensor


@pytest.fixture(autouse=True)
def seed() -> None:
    random.seed(0)


def features(N: int = 6, D: int = 5) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, D)).astype("float32")


def norms(prototypes: Prototypes) -> np.ndarray:
    return np.linalg.norm(prototypes.rows.data, axis=1)


def test_scores_are_cosines() -> None:
    prototypes, z = Prototypes(5, 7), features()
    scores = prototypes(Tensor(z)).data
    assert scores.shape == (6, 7) and scores.dtype == np.float32
    for n in range(6):
        for k in range(7):
            c = prototypes.rows.data[k]
            assert scores[n, k] == pytest.approx(z[n] @ c / np.linalg.norm(z[n]) / np.linalg.norm(c), abs=1e-6)
    np.testing.assert_allclose(prototypes(Tensor(9 * z)).data, scores, atol=1e-6)


def test_rows_start_on_the_sphere_and_differ() -> None:
    prototypes = Prototypes(5, 7)
    np.testing.assert_allclose(norms(prototypes), 1, atol=1e-6)
    assert np.abs(prototypes.rows.data @ prototypes.rows.data.T - np.eye(7)).max() < 0.999
    assert [name for name, _ in prototypes.named_parameters()] == ["rows"]


def test_renormalize_shortens_and_does_not_turn() -> None:
    prototypes, z = Prototypes(5, 7), Tensor(features())
    optimizer = optim.SGD(prototypes.parameters(), 0.5)
    (prototypes(z) ** 2).sum().backward()
    optimizer.step()
    moved = prototypes.rows.data.copy()
    assert np.abs(norms(prototypes) - 1).max() > 0.1
    prototypes.renormalize()
    np.testing.assert_allclose(norms(prototypes), 1, atol=1e-6)
    np.testing.assert_allclose(prototypes.rows.data * np.linalg.norm(moved, axis=1)[:, None], moved, atol=1e-6)


def test_gradients_to_features_and_prototypes() -> None:
    prototypes = Prototypes(4, 3).astype("float64")

    def squares(z: Tensor, rows: Tensor) -> Tensor:
        prototypes.rows = rows  # type: ignore[assignment]
        return (prototypes(z) ** 3).sum()

    gradcheck(squares, features(5, 4).astype("float64"), prototypes.rows.data.copy())


def test_the_same_on_a_device(cupy: backend.Backend) -> None:
    found = []
    for place in ("numpy", "cupy"):
        with backend.use(place):
            random.seed(0)
            prototypes = Prototypes(5, 7)
            prototypes.rows.data *= 3
            prototypes.renormalize()
            found.append(backend.to_host(prototypes(Tensor(backend.to_device(features()))).data))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)


def test_no_prototypes_are_refused() -> None:
    with pytest.raises(ValueError, match="Prototypes: expected at least 1 feature and 1 prototype, got 0 and 4"):
        Prototypes(0, 4)
