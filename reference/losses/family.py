"""The family tree: losses as boxes, and for each identity an edge with its condition and the difference measured."""

from pathlib import Path

from reference.losses.identities import DRAWS, Measured
from reference.losses.maps import sheet

# Columns and rows of the boxes, and what a loss compares.
PLACES = {
    "contrastive": (0, 4),
    "triplet": (1, 4),
    "n_pair": (2, 4),
    "cross_entropy": (3, 4),
    "distillation": (4, 4),
    "byol": (0, 3),
    "n_pair_mc": (1, 3),
    "info_nce": (2, 3),
    "instance_softmax": (3, 3),
    "swapped_prediction": (4, 3),
    "cmc": (0, 2),
    "clip": (1, 2),
    "nt_xent": (2, 2),
    "sup_con": (3, 2),
    "masked_mse": (4, 2),
    "cross_sensor": (1, 1),
    "debiased": (2, 1),
    "soft_nearest_neighbor": (3, 1),
    "mse": (4, 1),
    "hard_negative": (2, 0),
}
KINDS = {
    "distances, a margin": ("#fff2d9", ("contrastive", "triplet")),
    "dot products, rows as they are": ("#dcecf9", ("n_pair", "n_pair_mc", "info_nce", "instance_softmax")),
    "cosines": (
        "#d9f2e0",
        ("nt_xent", "sup_con", "debiased", "hard_negative", "clip", "cmc", "cross_sensor", "byol"),
    ),
    "squared distances in a softmax": ("#efe3f7", ("soft_nearest_neighbor",)),
    "targets, logits or pixels": (
        "#eeeeee",
        ("cross_entropy", "distillation", "swapped_prediction", "mse", "masked_mse"),
    ),
}


def draw(found: Measured, out: Path) -> None:
    """Boxes for losses, an edge for each identity with its condition and the difference measured."""
    figure = sheet("one family: under the condition on an edge, its two losses are equal", 17, 10.5)
    ax = figure.subplots()
    ax.set(xlim=(-0.45, 4.45), ylim=(-0.35, 4.35))
    ax.axis("off")
    for identity, difference in found:
        (x1, y1), (x2, y2) = PLACES[identity.a], PLACES[identity.b]
        ax.plot([x1, x2], [y1, y2], color="0.5", linewidth=1.5, zorder=1)
        size = f"{difference:.0e}" if difference else "0"
        text = f"{identity.condition}\nmax |Δ| = {size}"
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        ax.text((x1 + x2) / 2, (y1 + y2) / 2, text, ha="center", va="center", fontsize=9, bbox=paper, zorder=2)
    for kind, (colour, names) in KINDS.items():
        box = {"facecolor": colour, "edgecolor": "0.3", "boxstyle": "round,pad=0.5"}
        for name in names:
            ax.text(*PLACES[name], name, ha="center", va="center", fontsize=11, weight="bold", bbox=box, zorder=3)
        ax.scatter([], [], marker="s", s=120, color=colour, edgecolor="0.3", label=kind)
    note = (
        f"max |Δ|: the largest difference measured over {DRAWS} random draws in float64; 0: the same to the last bit\n"
        "N images, two views each; K negatives; τ temperature; s = 1/τ logit scale, or the length of rows; ε margin"
    )
    ax.text(4.45, -0.3, note, ha="right", va="bottom", fontsize=9)
    ax.legend(loc="lower left", title="what is compared", frameon=False, fontsize=10)
    figure.savefig(out / "family.png", dpi=100)
