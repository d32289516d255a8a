"""What losses over rows of embeddings share: what they ask of their input, and similarities between its rows."""

from typing import Any

from minissl import backend, ops
from minissl.backend import Array
from minissl.ops.checks import dimensions, floating, one_backend
from minissl.tensor import Tensor, as_tensor


def embeddings(loss: str, *rows: Any, least: int = 1) -> tuple[Tensor, ...]:
    """All as tensors of one shape (N, D) with N at least `least`, on one backend, without NaN or infinity.

    Raises ValueError or TypeError that names the loss, what it expected, what came and the remedy.
    """
    tensors = tuple(floating(loss, z) for z in rows)
    for z in tensors:
        dimensions(loss, z, "N D")
    shapes = [z.shape for z in tensors]
    if len(set(shapes)) > 1 or len(tensors[0]) < least or not tensors[0].shape[1]:
        raise ValueError(
            f"{loss}: expected {'embeddings (N, D)' if len(shapes) == 1 else f'{len(shapes)} (N, D) of one shape'} "
            f"with N at least {least} and D at least 1, got {' and '.join(map(str, shapes))}"
        )
    finite(loss, *tensors)
    return tensors


def finite(loss: str, *tensors: Tensor) -> None:
    """Raise ValueError when a tensor holds NaN or infinity: a maximum or a mask could hide it from the loss."""
    home = one_backend(loss, *tensors)
    every = home.xp.stack([home.xp.isfinite(z.data).all() for z in tensors])
    for i, fine in enumerate(home.to_host(every)):  # one copy to the host, whatever the number of tensors
        if not fine:
            bad = int((~home.xp.isfinite(tensors[i].data)).sum())
            raise ValueError(
                f"{loss}: expected finite numbers, {bad} of {tensors[i].size} in input {i + 1} are NaN or infinite; "
                "minissl.tensor.debug_nan (--debug-nan) finds where they arise; a lower learning rate often helps"
            )


def class_labels(loss: str, labels: Any, z: Tensor) -> Array:
    """Labels as integers (N,), one for each row of z and on its backend. Raises ValueError or TypeError."""
    home = backend.of(z.data)
    array = home.to_device(as_tensor(labels).data)
    if array.dtype.kind not in "iub":
        raise TypeError(f"{loss}: expected integer labels, got {array.dtype}; use .astype('int64')")
    if array.shape != z.shape[:1]:
        raise ValueError(f"{loss}: expected one label for each of {len(z)} rows, got labels of shape {array.shape}")
    return array


def positive_temperature(loss: str, temperature: float, name: str = "temperature") -> float:
    """The temperature, or a ValueError when it is not above 0."""
    if not 0 < temperature < float("inf"):
        raise ValueError(f"{loss}: expected {name} above 0, got {temperature}; usual values are 0.05 to 1")
    return temperature


def cosine_similarity(a: Tensor, b: Tensor | None = None) -> Tensor:
    """⟨a_i, b_j⟩ / ‖a_i‖‖b_j‖ for all pairs of rows: (N, D), (M, D) -> (N, M); b is a if not given."""
    a = ops.l2_normalize(a)
    return a @ (a if b is None else ops.l2_normalize(b)).transpose()


def self_mask(z: Tensor) -> Array:
    """True on the diagonal: (N, N), for the N rows of z and on its backend."""
    return backend.of(z.data).xp.eye(len(z), dtype=bool)


def without_self(logits: Tensor, first: int = 0) -> Tensor:
    """−∞ where a row meets itself: e^−∞ = 0, so no candidate of its own. Row r is row first + r of all."""
    itself = backend.of(logits.data).xp.eye(*logits.shape, first, dtype=bool)  # true in row r at column first + r
    return ops.where(itself, -float("inf"), logits)


def pick(table: Tensor, column: Any) -> Tensor:
    """The entry of each row at its own column: (N, K), (N,) -> (N,)."""
    return table[backend.of(table.data).xp.arange(len(table)), column]


def matched(logits: Tensor) -> Tensor:
    """−log softmax(logits)_ii, mean over the N rows: row i has to find column i. (N, N) -> scalar."""
    return -pick(ops.log_softmax(logits), backend.of(logits.data).xp.arange(len(logits))).mean()


def negative_rows(loss: str, negatives: Any, query: Tensor, positive: Tensor, shared: bool = False) -> Tensor:
    """The negatives of queries (N, D), at least one: each query's own (N, K, D) or, where `shared`, (K, D) for all."""
    negatives = floating(loss, negatives)
    N, D = query.shape
    own = negatives.ndim == 3 and len(negatives) == N
    if not (own or (shared and negatives.ndim == 2)) or not negatives.size or negatives.shape[-1] != D:
        expected = f"({N}, K, {D})" + shared * f" or (K, {D})"
        raise ValueError(f"{loss}: expected negatives {expected} with K at least 1, got shape {negatives.shape}")
    finite(loss, query, positive, negatives)
    return negatives


def dot_products(q: Tensor, rows: Tensor) -> Tensor:
    """⟨q_n, r_k⟩ with rows (K, D) for all, or ⟨q_n, r_nk⟩ with each query's own, (N, K, D): (N, D) -> (N, K)."""
    if rows.ndim == 2:
        return q @ rows.transpose()
    N, K, D = rows.shape
    return (rows @ q.reshape(N, D, 1)).reshape(N, K)
