"""Pictures that chapters share: pairs with their similarities, neighbours, maps over epochs, and attention."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from minissl import augment, backend, checkpoint, evaluation, ops, random, viz
from minissl.data import DataSet, evenly
from minissl.tensor import Tensor, no_grad
from reference.method import Method, build
from reference.transfer import has_classes

PAIRS, QUERIES, NEAREST = 8, 8, 6


def similarities(method: Any, data: DataSet, path: Path, name: str = "cosine of the embeddings z") -> None:
    """Two views of some images, and the cosines of what `method.embed` makes of them: positives on the diagonal."""
    some = data.some(PAIRS)
    batch = some.arrays | {"index": np.arange(len(some))}
    views = method.views(batch, random.seed(method.config.seed))
    with no_grad():
        z1, z2 = (unit(backend.to_host(z.data)) for z in method.embed(views)[:2])
    left, right = list(method.shown(views).values())[:2]
    title = f"{method.pairs} of {len(left)} test images: {name}. Framed: positives; the others: different images"
    viz.similarity_table(left, right, z1 @ z2.T, path, title)


def neighbours(method: Method, test: DataSet, path: Path) -> None:
    """For some test images the nearest others, in the encoder's features as kNN compares them."""
    features = evaluation.extract(method.encoder, test["images"], method.prepare)
    x = unit(evaluation.standardize(features)[0])  # (n, D)
    chosen = evenly(len(x), QUERIES)
    cosine = x[chosen] @ x.T  # (queries, n)
    cosine[np.arange(len(chosen)), chosen] = -np.inf  # not itself
    nearest = np.argsort(-cosine, axis=1)[:, : min(NEAREST, len(x) - 1)]
    images = method.picture(backend.to_host(method.raw({"images": test["images"]})))
    title, titles = "Nearest test images by the cosine of features", None
    rows = [[images[query], *images[found]] for query, found in zip(chosen, nearest, strict=True)]
    if has_classes(test):
        y, title = test["labels"], title + "; green: the same class, red: another"
        titles = [test.classes[y[query]] for query in chosen]
        for row, query, found in zip(rows, chosen, nearest, strict=True):
            row[1:] = [viz.framed(images[i], viz.RIGHT if y[i] == y[query] else viz.WRONG) for i in found]
    heads = ["query", *(f"nearest {i}" for i in range(1, len(rows[0])))]
    viz.image_grid(rows, path, titles, heads, title)


def keep_encoder(method: Method, epoch: int, out: Path) -> None:
    """After epochs 1, 2, 4, 8, ... and the last the encoder's weights, for `maps`."""
    done = epoch + 1
    if done & (done - 1) == 0 or done == method.config.epochs:
        checkpoint.save(out / f"encoder_epoch_{done:04}.safetensors", method.encoder.state_dict(), {"epoch": done})


def maps(method: Method, test: DataSet, out: Path) -> None:
    """Test images as points in the features of every kept encoder: `maps.png`, from untrained to trained."""
    encoder = build(type(method), method.config, method.inputs).encoder
    seen = lambda: evaluation.standardize(evaluation.extract(encoder, test["images"], method.prepare))[0]
    features = {"untrained": seen()}
    for file in sorted(out.glob("encoder_epoch_*.safetensors")):
        encoder.load_state_dict(checkpoint.load(file)[0])
        features[f"epoch {int(file.stem[-4:])}"] = seen()
    viz.embedding_maps(
        features, test["labels"], test.classes, out / "maps.png", "Test images in the encoder's features"
    )


def one_of_each_class(test: DataSet, right: np.ndarray | None = None) -> tuple[np.ndarray, list[str] | None]:
    """At most 10 images (indices) and as titles their classes, of which `right` says how often they were told (n,).

    Without classes images from all over the data, and no titles.
    """
    if not has_classes(test):
        return evenly(len(test), 10), None
    labels, chosen = np.unique(test["labels"], return_index=True)
    share = lambda k: "" if right is None else f": {right[test['labels'] == k].mean():.0%}"
    return chosen[:10], [test.classes[k] + share(k) for k in labels[:10]]


def attention(method: Method, test: DataSet, path: Path) -> None:
    """Of a vision transformer: an image of each class (or some), and the same as bright as each head looks."""
    chosen, names = one_of_each_class(test)
    images = method.picture(backend.to_host(method.raw({"images": test["images"][chosen]})))  # (K, H, W, 1 or 3)
    A = looks(method, test["images"][chosen])  # (K, heads, h, w)
    light = (A / A.max(axis=(2, 3), keepdims=True)) ** 0.5  # the root lets faint attention be seen
    light = augment.resize(np.moveaxis(light, 1, -1), images.shape[1:3])  # (K, H, W, heads)
    rows = {"image": images} | {f"head {i + 1}": images * light[..., i : i + 1] for i in range(A.shape[1])}
    title = "Where the class token looks in the last block: dark is ignored"
    viz.image_grid([list(row) for row in rows.values()], path, list(rows), names, title)


def looks(method: Any, images: np.ndarray) -> np.ndarray:
    """Where the class token looks in the last block, stored images (N, H, W, C) -> (N, heads, h, w) patches.

    Shares of its attention to all tokens; what is missing to 1 it pays to itself.
    """
    encoder, x = method.encoder, Tensor(method.prepare(backend.to_device(images)))
    last = len(encoder.blocks) - 1
    with no_grad():
        x = encoder.features(x, encoder.stages[last])  # (N, 1 + L, D), what enters the last block
        block = encoder.blocks[last]
        A = backend.to_host(block.attn.weights(block.norm1(x)).data)  # (N, heads, 1 + L, 1 + L)
    side = math.isqrt(A.shape[2] - 1)
    return A[:, :, 0, 1:].reshape(*A.shape[:2], side, side)


def unit(z: np.ndarray) -> np.ndarray:
    """Rows (N, D) on the host, each of length 1."""
    return ops.l2_normalize(z).data
