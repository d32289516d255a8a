"""Seasonal contrast: which pictures are the keys, what each sub-space takes for a negative, and MoCo v2 inside it."""

from typing import Any

import numpy as np
import pytest

from minissl import losses, random
from reference import seasons
from reference.contrastive.moco import MoCo
from tests.contrastive_chapters import D, N, embeddings, first_views, make, step, tiny_data


def dated(T: int = 5) -> dict[str, np.ndarray]:
    """Places whose pictures are one grey, which tells place and date."""
    grey = 10 * np.arange(N)[:, None] + np.arange(T)
    return {"seasons": np.broadcast_to(grey[..., None, None, None], (N, T, 16, 16, 3)).astype(np.uint8)}


def dates(method: object, seed: int) -> list[np.ndarray]:
    """The date (N,) of query and keys."""
    views = method.views(dated(), random.seed(seed))  # type: ignore[attr-defined]
    mean, deviation = method.inputs.mean, method.inputs.deviation  # type: ignore[attr-defined]
    grey = [np.rint(255 * (view[:, 8, 8, 0] * deviation[0] + mean[0])).astype(int) for view in views]
    assert all((each // 10 == np.arange(N)).all() for each in grey)  # of the same place
    return [each % 10 for each in grey]


@pytest.mark.parametrize(("keys", "expected"), [("seco", "0120"), ("temporal", "01"), ("augmented", "00")], ids=str)
def test_which_dates_query_and_keys_have(keys: str, expected: str) -> None:
    """Equal digits are equal dates; different ones differ for every place, and all dates occur."""
    method = make("seco", keys=keys, jitter=0.0, grey=0.0, blur=0.0)
    seen = set()
    for seed in range(20):
        found = dates(method, seed)
        assert len(found) == len(expected)
        for i, first in enumerate(expected):
            for j, second in enumerate(expected):
                assert (found[i] == found[j]).all() if first == second else (found[i] != found[j]).all()
        seen |= set(found[0].tolist())
    assert seen == set(range(5))


def views_of_one_date(**settings: Any) -> tuple[np.ndarray, ...]:
    """Of places that look alike on all dates."""
    batch = {"seasons": np.repeat(tiny_data()["seasons"][:N, :1], 4, axis=1)}
    return make("seco", **settings).views(batch, random.seed(3))


def test_the_second_key_has_the_colours_of_the_query_and_the_others_other_ones() -> None:
    query, k0, k1, k2 = views_of_one_date(crop=1.0, flip=False, turns=False)
    np.testing.assert_array_equal(k1, query)
    np.testing.assert_array_equal(k2, k0)
    assert np.abs(k0 - query).mean() > 0.1


def test_no_key_is_known_by_its_frame() -> None:
    views = views_of_one_date(jitter=0.0, grey=0.0, blur=0.0)
    for i, one in enumerate(views):
        for other in views[i + 1 :]:
            assert (np.abs(one - other).mean(axis=(1, 2, 3)) > 0.1).mean() > 0.5


def test_the_loss_is_the_sum_over_sub_spaces_with_the_places_other_keys_beyond_the_first() -> None:
    """By plain loops."""
    method, z = make("seco"), [z / np.linalg.norm(z.data, axis=1, keepdims=True) for z in embeddings(12)]
    expected = 0.0
    for s in range(3):
        q, *keys = (each.data for each in z[4 * s : 4 * s + 4])
        for n in range(N):
            logits = [q[n] @ keys[s][n], *(q[n] @ row for row in method.queue[s].rows.data)]
            logits += [q[n] @ keys[j][n] for j in range(3) if j != s and s > 0]
            e = np.exp(np.array(logits) / method.config.temperature)
            expected -= np.log(e[0] / e.sum()) / N
    assert method.compare(*z).item() == pytest.approx(expected, rel=1e-5)
    method.after_step()
    for s in range(3):
        np.testing.assert_array_equal(method.queue[s].rows.data[:N], z[4 * s + 1 + s].data)


def test_no_gradient_reaches_keys_queues_or_their_encoder() -> None:
    method, z = make("seco"), embeddings(12)
    method.compare(*z).backward()
    assert [each.grad is not None for each in z] == [True, False, False, False] * 3
    step(method)
    assert all(not tensor.requires_grad and tensor.grad is None for _, tensor in method.key.named_tensors())


@pytest.mark.parametrize("keys", ["temporal", "augmented"])
def test_with_one_sub_space_it_is_moco_v2(keys: str) -> None:
    method, (q, k) = make("seco", keys=keys), embeddings(2)
    assert isinstance(method, MoCo) and len(method.queue) == 1
    found = method.compare(q, k).item()
    assert found == pytest.approx(losses.info_nce(q, k, method.queue[0].rows, method.tau).item(), rel=1e-5)


def test_sub_spaces_have_heads_of_their_own_on_one_encoder() -> None:
    method = make("seco")
    z = method.embed(first_views(method))
    assert len(z) == 12 and all(each.shape == (N, D) for each in z)
    np.testing.assert_allclose([np.linalg.norm(each.data, axis=1) for each in z], 1, rtol=1e-5)
    z[0].sum().backward()
    heads = [[p.grad is not None and np.abs(p.grad).max() > 0 for p in head.parameters()] for head in method.head.heads]
    assert any(heads[0]) and not any(heads[1] + heads[2])
    assert method.encoder.conv1.weight.grad is not None


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="builds on MoCo v2, got 3"):
        make("seco", version=3)
    with pytest.raises(ValueError, match="--seasons: expected at least 3"):
        make("seco", seasons=2)
    data = tiny_data()
    seasons.check(data, "seco", 3)
    few = data.select(np.arange(4))
    few.arrays["seasons"] = few["seasons"][:, :2]
    with pytest.raises(ValueError, match=r"at least 3 dates of each place.*has shape \(4, 2, 16, 16, 3\)"):
        seasons.check(few, "seco", 3)
    del few.arrays["seasons"]
    with pytest.raises(ValueError, match="it is not there"):
        seasons.check(few, "seco", 3)
