"""Attention: each query takes a weighted mean of the values, weighted by how well the keys match it."""

from typing import Any

from minissl import backend
from minissl.backend import Array
from minissl.ops.checks import broadcast_shape, floating, one_backend
from minissl.ops.shaping import on_backend
from minissl.tensor import Tensor, as_tensor, record


def scaled_dot_product_attention(
    q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, chunk: int | None = None
) -> Tensor:
    """softmax(q kᵀ/√d) v for queries (..., L, d), keys (..., S, d) and values (..., S, e): -> (..., L, e).

    mask: booleans that broadcast to (..., L, S), true where a query may look; a query that may look nowhere gives 0.
    causal: query i looks at keys 0..i only. chunk: handle so many queries at a time and compute their weights again on
    the way back, so that the (L, S) matrix is never held whole. (Vaswani et al., 2017, "Attention Is All You Need")
    """
    q, k, v = floating("attention", q), floating("attention", k), floating("attention", v)
    home = one_backend("attention", q, k, v)
    if min(t.ndim for t in (q, k, v)) < 2 or q.shape[-1] != k.shape[-1] or k.shape[:-1] != v.shape[:-1]:
        raise ValueError(
            f"attention: expected q (..., L, d), k (..., S, d) and v (..., S, e), got {q.shape}, {k.shape}, {v.shape}"
        )
    if q.shape[:-2] != k.shape[:-2] or 0 in k.shape or 0 in q.shape:
        raise ValueError(f"attention: expected equal leading axes and nothing empty, got {q.shape} and {k.shape}")
    Q, K, V = q.data, k.data, v.data
    L, S = q.shape[-2], k.shape[-2]
    allowed = _allowed(home, mask, causal, q.shape[:-1], S)

    def rows(i: slice) -> Array | None:
        return allowed if allowed is None or allowed.shape[-2] == 1 else allowed[..., i, :]

    if chunk is None:
        y, P = home.attention(Q, K, V, allowed)
        return record(y, ((q, k, v), lambda g: home.attention_gradient(g, Q, K, V, P)))

    pieces = [slice(i, min(i + chunk, L)) for i in range(0, L, chunk)]
    y = home.xp.concatenate([home.attention(Q[..., i, :], K, V, rows(i))[0] for i in pieces], -2)

    def vjp(g: Array) -> tuple[Array, Array, Array]:
        dq, dk, dv = (home.xp.zeros_like(a) for a in (Q, K, V))
        for i in pieces:
            _, P = home.attention(Q[..., i, :], K, V, rows(i))
            dq[..., i, :], k_part, v_part = home.attention_gradient(g[..., i, :], Q[..., i, :], K, V, P)
            dk += k_part
            dv += v_part
        return dq, dk, dv

    return record(y, ((q, k, v), vjp))


def _allowed(home: backend.Backend, mask: Any, causal: bool, leading: tuple[int, ...], S: int) -> Array | None:
    """Mask and causality together, or None where everything is allowed."""
    allowed = None if mask is None else on_backend(as_tensor(mask), home)
    if allowed is not None:
        if allowed.dtype.kind != "b":
            raise TypeError(f"attention: expected a boolean mask, true where a query may look, got {allowed.dtype}")
        if allowed.ndim < 2 or broadcast_shape("attention", allowed.shape, (*leading, S)) != (*leading, S):
            raise ValueError(f"attention: expected a mask that broadcasts to {(*leading, S)}, got {allowed.shape}")
    if causal:
        past = home.xp.tril(home.xp.ones((leading[-1], S), dtype=bool))
        allowed = past if allowed is None else allowed & past
    return allowed
