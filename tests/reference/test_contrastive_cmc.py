"""CMC: an encoder for each group of channels, and pairs of what they make of one place."""

import numpy as np
import pytest

from minissl import augment, nn
from minissl.data import DataSet
from minissl.tensor import Tensor
from reference.contrastive import cmc
from reference.contrastive.cmc import CMC
from tests.contrastive_chapters import N, embeddings, first_views, make, noise_images, tiny_data
from tests.oracles.softmax import cmc as oracle

CHANNELS = {
    "cmc": [slice(0, 1), slice(1, 3)],
    "cmc spectral": [slice(0, 4), slice(4, 10), slice(10, 13)],  # 443-665, 705-945 and 1375-2190 nm
}


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("training", [True, False])
def test_no_encoder_sees_another_view(name: str, training: bool) -> None:
    method = make(name).train(training)
    method.encoder.space = nn.Identity()
    x = np.random.default_rng(0).normal(size=(4, 16, 16, method.inputs.channels)).astype("float32")
    V = len(CHANNELS[name])
    assert method.encoder.out_features == V * 8 * (4 // V)
    for v, own in enumerate(CHANNELS[name]):
        s = Tensor(x, requires_grad=True)
        (method.encoder(s).reshape(4, V, -1)[:, v] ** 2).sum().backward()
        seen = np.abs(s.grad).max(axis=(0, 1, 2)) > 0  # type: ignore[arg-type]
        assert seen.nonzero()[0].tolist() == list(range(own.start, own.stop))
        other = x.copy()
        other[..., own] += 1
        pairs = zip(method.embed((x,)), method.embed((other,)), strict=True)
        changed = [np.abs(z.data - moved.data).max() > 1e-3 for z, moved in pairs]
        assert changed == [u == v for u in range(V)]


def test_the_encoder_gives_the_features_of_all_views_side_by_side() -> None:
    method = make("cmc").eval()
    x = Tensor(method.prepare(tiny_data()["images"]))
    s = method.encoder.space(x)
    each = [encoder(s[..., c]).data for encoder, c in zip(method.encoder.backbones, CHANNELS["cmc"], strict=True)]
    np.testing.assert_allclose(method.encoder(x).data, np.concatenate(each, axis=1), atol=1e-6)
    for z, h, head in zip(method.embed((x.data,)), each, method.heads, strict=True):
        np.testing.assert_allclose(z.data, head(Tensor(h)).data, atol=1e-5)


@pytest.mark.parametrize("graph", ["full", "core"])
def test_the_graph_says_which_views_are_compared(graph: str) -> None:
    method, z = make("cmc spectral", graph=graph), embeddings(3)
    expected = oracle([each.data.tolist() for each in z], 0.07, graph)
    assert method.compare(*z).item() == pytest.approx(expected, rel=1e-4)
    collapsed = method.compare(*[Tensor(np.ones((N, 8), "float32"))] * 3).item()
    assert [collapsed] == pytest.approx(list(method.references.values()), rel=1e-5)


def test_all_views_are_of_one_crop() -> None:
    for name, channels in (("cmc", 3), ("cmc spectral", 13)):
        assert [view.shape for view in first_views(make(name))] == [(N, 16, 16, channels)]
    method = make("cmc", crop=1.0, flip=False, turns=False)
    lightness, colour = method.shown(first_views(method)).values()
    lab = augment.rgb_to_lab(augment.to_float(tiny_data()["images"][:N]))
    np.testing.assert_allclose(augment.rgb_to_lab(lightness)[..., 0], lab[..., 0], atol=0.1)
    np.testing.assert_allclose(augment.rgb_to_lab(lightness)[..., 1:], 0, atol=0.1)
    np.testing.assert_allclose(augment.rgb_to_lab(colour)[..., 1:], lab[..., 1:], atol=0.1)


def test_spectral_scenes_are_opened_and_shown() -> None:
    method, s2 = make("cmc spectral"), tiny_data("s2")["images"][:N]
    config = cmc.Config(views="spectral", scenes=N, image_size=16)
    np.testing.assert_array_equal(CMC.open_data(config)["images"], s2)
    shown = method.shown(first_views(method))
    assert [title.split(" (")[0] for title in shown] == ["visible", "near infrared", "short-wave infrared"]
    for picture in (*shown.values(), method.picture(s2)):
        assert picture.shape == (N, 16, 16, 3) and 0 <= picture.min() < picture.max() <= 1


@pytest.mark.parametrize(
    ("views", "channels", "width", "message"),
    [
        ("lab", 13, 4, "cmc --views lab: expected RGB images, of 3 channels, got 13 channels; .*--views spectral 13"),
        ("spectral", 3, 4, "cmc --views spectral: expected Sentinel-2's 13 bands, B1 to B12, got 3 .*--views lab"),
        ("lab", 1, 4, "cmc --views lab: expected RGB images, of 3 channels, got 1 channels"),
        ("spectral", 13, 2, "cmc: expected --width of at least 3, a channel for each view, got 2"),
    ],
)
def test_what_has_no_such_views_is_refused_with_a_remedy(views: str, channels: int, width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("cmc", DataSet({"images": noise_images(channels)}), views=views, width=width)
