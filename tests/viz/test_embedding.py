"""minissl.viz.embedding: the projection is PCA, and the same embeddings give the same picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minissl.viz import embedding_plot, project
from minissl.viz.embedding import _principal

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((200, 8)) @ RNG.standard_normal((8, 8)) + 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "embedding.png"


@pytest.mark.parametrize("shape", [(50, 8), (8, 50), (2, 2), (2, 5)])
def test_projection_equals_the_eigenvectors_of_the_covariance(shape: tuple[int, int]) -> None:
    z = RNG.standard_normal(shape) * np.linspace(1, 3, shape[1]) + 10
    values, vectors = np.linalg.eigh(np.cov(z.T, bias=True))
    leading = vectors[:, ::-1][:, :2]
    expected = (z - z.mean(0)) @ leading
    points, explained = _principal(z)
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-6)
    np.testing.assert_allclose(explained, values[::-1][:2] / values.sum(), atol=1e-9)
    assert np.array_equal(project(z), points)


def test_the_largest_loading_of_each_axis_is_positive() -> None:
    for z in (Z, -Z, Z.astype(np.float32)):
        centred = z - z.mean(0)
        axes = np.linalg.lstsq(centred @ np.linalg.pinv(centred) @ project(z), centred, rcond=None)[0]  # (2, D)
        largest = np.take_along_axis(axes, np.abs(axes).argmax(1, keepdims=True), 1)
        assert (largest > 0).all()
    np.testing.assert_allclose(project(-Z), -project(Z))  # the axes stay, the points are mirrored


def test_a_collapsed_encoder_explains_nothing(path: Path) -> None:
    points, explained = _principal(np.ones((5, 3), np.float32))
    assert not points.any() and not explained.any()
    embedding_plot(np.ones((5, 3)), np.zeros(5, int), ["all"], path, "collapsed")


@pytest.mark.parametrize("count, width", [(1, 8.6), (7, 8.6), (50, 18.6)])
def test_plot_widens_for_many_classes_and_long_names(path: Path, count: int, width: float) -> None:
    names = [f"class {k} " + "with a name that goes on " * (k % 3) for k in range(count)]
    embedding_plot(Z, RNG.integers(0, count, len(Z)), names, path, "a title that goes on " * 10)
    with Image.open(path) as image:
        image.load()
        assert image.size == (round(120 * width), 720)


@pytest.mark.parametrize("shape", [(5,), (1, 4), (4, 1), (0, 4), (2, 3, 4)])
def test_another_shape_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected embeddings \(N, D\)"):
        project(np.zeros(shape))


def test_values_that_are_not_finite_are_counted() -> None:
    z = np.zeros((6, 3))
    z[2, 1], z[4] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 6 embeddings hold NaN or infinity, the first in row 2"):
        project(z)


def test_labels_must_fit(path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected 200 labels, one per embedding, got shape \(3,\)"):
        embedding_plot(Z, np.zeros(3, int), ["a"], path, "title")
    with pytest.raises(ValueError, match=r"expected labels from 0 to 1, got \[-1  7\]"):
        embedding_plot(Z, np.r_[-1, 7, np.zeros(198, int)], ["a", "b"], path, "title")
