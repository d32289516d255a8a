"""How much of the push each negative gives: sorted by similarity, for several temperatures τ and weights β.

The push that row i feels is Σ_k A_ik ẑ_k over its negatives k, with A_ik = ∂L/∂sim(i, k). The share of negative k is
A_ik / Σ_k A_ik: it is measured from the gradients of the public losses, not from a formula.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minissl import losses, ops
from minissl.tensor import Tensor
from reference.losses.maps import plot_lines, sheet

N = 16  # images, so 2N − 2 = 30 negatives
D = 2 * N  # as many features as rows: gradients of rows then give those of similarities
TEMPERATURES = (0.05, 0.1, 0.2, 0.5, 1.0)
BETAS = (0.0, 0.5, 1.0, 2.0)
RANKS = np.arange(1, 2 * N - 1)


def batch(seed: int = 0) -> np.ndarray:
    """Unit rows (2N, D): two views of N images that share four directions, so that similarities spread widely."""
    rng = np.random.default_rng(seed)
    content = rng.standard_normal((N, 4)) @ rng.standard_normal((4, D))  # (N, D)
    z = np.concatenate([content, content]) + 1.2 * rng.standard_normal((2 * N, D))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def shares_in_batch(loss: Any, z: np.ndarray) -> np.ndarray:
    """The mean share of the negative of each rank, most similar first: (2N − 2,). loss: of both views, (N, D) each.

    G = (A + Aᵀ) ẑ but for each row's own direction, which is the diagonal: G ẑ⁻¹ is A + Aᵀ off the diagonal, where
    similarity (i, k) is counted from both of its ends.
    """
    z1, z2 = Tensor(z[:N], requires_grad=True), Tensor(z[N:], requires_grad=True)
    loss(z1, z2).backward()
    G = np.concatenate([z1.grad, z2.grad])
    A = G @ np.linalg.inv(z)  # (2N, 2N)
    i = np.arange(2 * N)
    negative = i[:, None] % N != i % N
    weights, similarity = A[negative].reshape(2 * N, -1), (z @ z.T)[negative].reshape(2 * N, -1)  # (2N, 2N − 2)
    by_rank = np.take_along_axis(weights, np.argsort(-similarity, axis=1), 1)
    return (by_rank / by_rank.sum(1, keepdims=True)).mean(0)


def shares_of_queue(temperature: float, z: np.ndarray) -> np.ndarray:
    """The same for info_nce, whose queue is all other images' views: each query alone, seen from its end only."""
    found = []
    for i in range(2 * N):
        others = [k for k in range(2 * N) if k % N != i % N]
        queue = z[sorted(others, key=lambda k: -z[k] @ z[i])]
        negatives = Tensor(queue, requires_grad=True)  # (2N − 2, D)
        losses.info_nce(z[i : i + 1], z[[(i + N) % (2 * N)]], negatives, temperature).backward()
        weights = negatives.grad @ z[i]  # ∂L/∂n_k = A_ik q, and q has length 1
        found.append(weights / weights.sum())
    return np.mean(found, axis=0)


def draw(out: Path) -> None:
    z = batch()
    images = ops.l2_normalize(Tensor(z)).numpy()
    figure = sheet(
        f"who pushes: the share of each of {2 * N - 2} negatives in the gradient, mean over the rows", 14, 10
    )
    (in_batch, queue), (hard, nearest) = figure.subplots(2, 2)
    unit = "share of the negatives' gradient (%)"
    rank = "rank of the negative (1 = most similar)"

    nt_xent = {t: 100 * shares_in_batch(partial(losses.nt_xent, temperature=t), images) for t in TEMPERATURES}
    plot_lines(in_batch, RANKS, {f"τ = {t:g}": share for t, share in nt_xent.items()}, rank, unit)
    in_batch.set_title("nt_xent: a small τ leaves the work to the nearest (a pair counts from both ends)", fontsize=10)
    info_nce = {t: 100 * shares_of_queue(t, images) for t in TEMPERATURES}
    plot_lines(queue, RANKS, {f"τ = {t:g}": share for t, share in info_nce.items()}, rank, unit)
    queue.set_title("info_nce with the same negatives in a queue (a pair counts from the query's end)", fontsize=10)

    reweighted = {
        f"β = {b:g}" + " (debiased, here nt_xent)" * (b == 0): 100
        * shares_in_batch(partial(losses.hard_negative, temperature=0.5, tau_plus=0.0, beta=b), images)
        for b in BETAS
    }
    plot_lines(hard, RANKS, reweighted, rank, unit)
    hard.axhline(0, color="0.4", linewidth=1)
    hard.set_title(
        "hard_negative at τ = 0.5, τ⁺ = 0 (below 0: pulled nearer, by the gradient of the weights)", fontsize=10
    )

    t = np.geomspace(0.03, 3, 25)
    top = {
        "nt_xent": np.array([100 * shares_in_batch(partial(losses.nt_xent, temperature=x), images)[0] for x in t]),
        "info_nce, queue": np.array([100 * shares_of_queue(x, images)[0] for x in t]),
    }
    plot_lines(nearest, t, top, "temperature τ (no unit, as the cosine)", "share of the nearest negative (%)")
    nearest.set(xscale="log", xticks=[0.03, 0.1, 0.3, 1, 3], xticklabels=["0.03", "0.1", "0.3", "1", "3"])
    nearest.set_ylim(0, 100)
    nearest.set_title("the nearest negative alone, against τ", fontsize=10)
    for ax in (in_batch, queue, hard, nearest):
        ax.axhline(100 / (2 * N - 2), color="black", linestyle=":", linewidth=1, label="equal shares")
        ax.legend(fontsize=9)
    figure.savefig(out / "shares.png", dpi=100)
