"""SAR and optical: what each encoder sees, clipping before standardising, and what is left for a task."""

import numpy as np
import pytest

from minissl import evaluation, losses
from minissl.data import DataSet
from minissl.tensor import Tensor
from reference import radar
from reference.earth.sar_optical import joined
from tests.contrastive_chapters import N, data_of, embeddings, first_views, make, tiny_data

DATA = "sar_optical"


def changed_by(name: str, channels: slice) -> list[bool]:
    """Whether other values of these channels change the projections of S1, of S2, and the features."""
    method = make(name).eval()
    [view] = first_views(method)
    other = view.copy()
    other[..., channels] += 1
    before = [*method.embed((view,)), method.encoder(Tensor(view))]
    after = [*method.embed((other,)), method.encoder(Tensor(other))]
    return [not np.array_equal(a.data, b.data) for a, b in zip(before, after, strict=True)]


@pytest.mark.parametrize(
    ("name", "radar_seen", "optical_seen"),
    [
        ("sar_optical", [True, False, True], [False, True, True]),
        ("sar_optical s1", [True, False, True], [False, True, False]),
        ("sar_optical s2 swin", [True, False, False], [False, True, True]),
    ],
)
def test_each_encoder_sees_its_own_sensor(name: str, radar_seen: list[bool], optical_seen: list[bool]) -> None:
    assert changed_by(name, slice(-2, None)) == radar_seen
    assert changed_by(name, slice(0, -2)) == optical_seen


def test_early_fusion_sees_all_and_has_two_crops_of_all_channels() -> None:
    method = make("sar_optical early")
    one, two = first_views(method)
    assert one.shape == two.shape == (N, 16, 16, 5) and np.abs(one - two).max() > 0.1
    assert len(list(method.encoder.backbones)) == 1 and not len(list(method.unseen))


def test_both_sensors_see_one_crop_turned_alike() -> None:
    """On places whose radar picture is their optical one."""
    method = make("sar_optical")
    images = np.random.default_rng(0).random((N, 16, 16, 1), np.float32).repeat(5, axis=3)
    method.inputs.mean[:], method.inputs.deviation[:] = [0.5] * 5, [0.3] * 5
    [view] = method.views({"images": images}, np.random.default_rng(1))
    np.testing.assert_allclose(view[..., 3:], view[..., :2], atol=1e-6)


def test_the_loss_is_cross_sensor() -> None:
    z1, z2 = embeddings(2)
    for name, same in (("sar_optical", True), ("sar_optical s2 swin", False)):
        assert make(name).compare(z1, z2).item() == losses.cross_sensor(z1, z2, 0.3, same).item()


def test_s1_is_clipped_in_decibels_and_s2_kept_as_it_is_before_anything_is_standardised() -> None:
    data = tiny_data("s2")
    sar = np.linspace(-60, 20, data["images"][..., :2].size, dtype=np.float32).reshape(*data["images"].shape[:3], 2)
    found = joined(DataSet(data.arrays | {"sar": sar}, bands=("B",) * 13))
    assert "sar" not in found and found.bands[-2:] == ("VV", "VH")
    np.testing.assert_array_equal(found["images"][..., :13], data["images"])
    np.testing.assert_allclose(found["images"][..., 13:], (np.clip(sar, -25, 0) + 25) / 25, atol=1e-6)
    colours = joined(DataSet(tiny_data().arrays))["images"][..., :3]
    np.testing.assert_allclose(colours, tiny_data()["images"] / 255, atol=1e-6)


def test_after_pre_training_the_head_is_swapped_and_both_encoders_are_the_pre_trained_ones() -> None:
    """Features of the late fusion are those of the towers; of one sensor, those of its tower."""
    images = data_of(DATA)["images"]
    late, x = make("sar_optical").eval(), make("sar_optical").prepare(images)
    h = evaluation.extract(late.encoder, images, late.prepare)
    each = [tower(Tensor(x[..., c])).data for tower, c in zip(late.towers, (slice(3, 5), slice(0, 3)), strict=True)]
    np.testing.assert_allclose(h, np.concatenate(each, axis=1), rtol=1e-4, atol=1e-6)
    for name, seen in (("sar_optical s1", 0), ("sar_optical s2 swin", 1)):
        alone = make(name).eval()
        h, c = evaluation.extract(alone.encoder, images, alone.prepare), (slice(3, 5), slice(0, 3))[seen]
        np.testing.assert_allclose(h, alone.towers[seen](Tensor(alone.prepare(images)[..., c])).data, atol=1e-6)


def test_what_is_missing_or_has_holes_is_named() -> None:
    data = DataSet(tiny_data().arrays, name="plain")
    radar.check(data, "sar_optical")
    data.arrays["sar"] = data["sar"].copy()
    data["sar"][3, 0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="sar_optical: 1 values of 'sar' in data 'plain' are NaN or infinite"):
        radar.check(data, "sar_optical")
    data.arrays["sar"] = data["sar"][..., :1]
    with pytest.raises(ValueError, match=r"'sar' \(16, 16, 16, 2\), VV and VH in dB.*has shape \(16, 16, 16, 1\)"):
        radar.check(data, "sar_optical")
