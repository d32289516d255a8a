"""`python -m reference losses`: forces are negative gradients, shares are shares, identities hold, pictures appear."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minissl import losses
from minissl.tensor import Tensor
from reference.__main__ import main
from reference.losses import family, forces, identities, shares

LOSSES: dict[str, forces.OfPoint] = {
    "positive pair": forces.positive_pair,
    "negative pair": forces.negative_pair,
    "negative pair, Hadsell": forces.negative_pair_hadsell,
    "triplet, negative": forces.triplet_negative,
    "triplet, positive": forces.triplet_positive,
    "triplets": forces.triplets,
    "lifted_structured": forces.lifted_structured,
    "n_pair": forces.n_pair,
    "byol": forces.byol,
    "nt_xent": partial(forces.nt_xent, temperature=0.1),
}
POINTS = np.array([[0.31, 0.22], [-0.52, 0.43], [0.11, -0.71], [-1.2, -0.9]])


@pytest.mark.parametrize("name", LOSSES)
def test_the_force_is_the_negative_numerical_gradient(name: str) -> None:
    values, force = forces.value_and_force(LOSSES[name], POINTS)
    h = 1e-6
    for k, step in enumerate(h * np.eye(2)):
        ahead, behind = (forces.value_and_force(LOSSES[name], POINTS + sign * step)[0] for sign in (1, -1))
        np.testing.assert_allclose(force[:, k], -(ahead - behind) / (2 * h), atol=1e-6)
    assert values.max() > 0 and np.abs(force).max() > 0.1


def test_the_slides_hinge_is_dead_at_the_anchor_and_hadsells_is_not() -> None:
    near = np.array([[1e-3, 0.0]])
    assert forces.value_and_force(forces.negative_pair, near)[1][0, 0] == pytest.approx(2e-3)
    assert forces.value_and_force(forces.negative_pair_hadsell, near)[1][0, 0] == pytest.approx(2 - 2e-3)


def test_on_the_circle_forces_are_tangential() -> None:
    ring = forces.on_circle(np.arange(0, 360, 20))
    for name in ("byol", "nt_xent"):
        _, force = forces.value_and_force(LOSSES[name], ring)
        np.testing.assert_allclose((force * ring).sum(1), 0, atol=1e-9)


def test_shares_of_a_queue_are_the_softmax_over_negatives() -> None:
    z, tau = shares.batch(1), 0.2
    expected = np.zeros(2 * shares.N - 2)
    for i in range(2 * shares.N):
        s = sorted((z[k] @ z[i] for k in range(2 * shares.N) if k % shares.N != i % shares.N), reverse=True)
        e = [math.exp(x / tau) for x in s]
        expected += np.array(e) / sum(e) / (2 * shares.N)
    np.testing.assert_allclose(shares.shares_of_queue(tau, z), expected, atol=1e-9)


def test_shares_in_a_batch_are_those_of_both_ends_of_a_pair() -> None:
    """A_ik of nt_xent: row i's softmax and row k's, each over all but itself."""
    z, tau, N = shares.batch(1), 0.2, shares.N
    s = np.exp(z @ z.T / tau) * (1 - np.eye(2 * N))
    p = s / s.sum(1, keepdims=True)
    expected = np.zeros(2 * N - 2)
    for i in range(2 * N):
        order = sorted((k for k in range(2 * N) if k % N != i % N), key=lambda k: -(z[k] @ z[i]))
        weights = np.array([p[i, k] + p[k, i] for k in order])
        expected += weights / weights.sum() / (2 * N)
    found = shares.shares_in_batch(partial(losses.nt_xent, temperature=tau), z)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_smaller_temperature_or_a_larger_beta_gives_the_nearest_negative_more() -> None:
    z = shares.batch()
    by_temperature = [shares.shares_of_queue(t, z)[0] for t in (1.0, 0.5, 0.1)]
    hard = [partial(losses.hard_negative, temperature=0.5, tau_plus=0.0, beta=b) for b in (0.0, 1.0, 2.0)]
    by_beta = [shares.shares_in_batch(loss, z)[0] for loss in hard]
    assert by_temperature == sorted(by_temperature) and by_beta == sorted(by_beta)


@pytest.mark.parametrize("identity", identities.IDENTITIES, ids=lambda i: f"{i.a} = {i.b}")
def test_identities_hold(identity: identities.Identity) -> None:
    assert identities.largest_difference(identity) < 1e-9


def test_a_broken_identity_shows() -> None:
    broken = identities.Identity("a", "b", "never", lambda x: (Tensor(x()), Tensor(x())))
    assert identities.largest_difference(broken) > 0.1


def test_every_loss_of_the_tree_has_one_box() -> None:
    named = {name for identity in identities.IDENTITIES for name in (identity.a, identity.b)}
    coloured = [name for _, names in family.KINDS.values() for name in names]
    assert set(family.PLACES) == named == set(coloured) and len(coloured) == len(named)
    assert len(set(family.PLACES.values())) == len(named) and named <= set(losses.__all__)


def test_the_command_draws_all_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["losses", "--out", str(tmp_path / "new"), "--grid", "5"])
    printed = capsys.readouterr().out
    names = {"contrastive.png", "triplet.png", "many_negatives.png", "circle.png", "shares.png", "family.png"}
    assert {file.name for file in (tmp_path / "new").iterdir()} == names
    assert all(name in printed for name in names) and "nt_xent = sup_con" in printed
    for name in names:
        with Image.open(tmp_path / "new" / name) as image:
            assert min(image.size) > 500 and np.asarray(image.convert("L")).std() > 5


def test_the_command_is_listed_and_helps(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert "\n  losses " in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["losses", "--help"])
    assert stop.value.code == 0 and "--out" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: --grid: expected at least 5"):
        main(["losses", "--grid", "1"])
