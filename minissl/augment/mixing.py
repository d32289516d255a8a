"""Mixtures of two images: each of a batch is laid over, or pasted into, another one of the same batch.

Both give (mixed, partner, weight): image n of `mixed` is image n of the batch by the part weight[n], and image
partner[n] by the rest. A target is mixed likewise, w t[n] + (1 − w) t[partner[n]]; a loss, for most losses, too.

Every image has a partner of its own, never itself unless it is alone. `partner` (N,) int64 and `weight` (N,) float32
are on the backend of the images.
"""

from minissl import backend
from minissl.augment.arguments import Generator, checked
from minissl.backend import Array, Backend


def mixup(images: Array, rng: Generator, alpha: float = 1.0, mostly_own: bool = False) -> tuple[Array, Array, Array]:
    """x̃_n = λ x_n + (1 − λ) x_p(n), λ ~ Beta(α, α): one image shines through the other. Images (N, H, W, C).

    A small α leaves most images nearly as they are, or nearly the partner; α = 1 draws λ evenly from 0 to 1, a large α
    takes halves. mostly_own: λ becomes max(λ, 1 − λ), so that no mixture is more of the partner than of its own image
    (Berthelot et al., 2019, "MixMatch"). Raises ValueError for an α that is not above 0.

    Differs from the paper's code: λ is drawn for each image, not once for a batch.
    (Zhang et al., 2018, "mixup: Beyond Empirical Risk Minimization")
    """
    place, images = checked("mixup", images)
    partner = another(place, rng, len(images))
    weight = place.to_device(shares("mixup", rng, len(images), alpha, mostly_own).astype("float32"))
    w = weight[:, None, None, None]
    return w * images + (1 - w) * images[partner], partner, weight


def cutmix(images: Array, rng: Generator, alpha: float = 1.0, mostly_own: bool = False) -> tuple[Array, Array, Array]:
    """A box of x_n is replaced by what x_p(n) has there. The weight is the part of the area that is left, exactly.

    The box has sides H √(1 − λ) and W √(1 − λ), λ ~ Beta(α, α), and its centre is anywhere in the image; what falls
    outside is cut off, and sides are rounded down: the weight is λ or more. All else is as for `mixup`.

    Differs from the paper's code: λ and box are drawn for each image, not once for a batch.
    (Yun et al., 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features")
    """
    place, images = checked("cutmix", images)
    N, H, W, _ = images.shape
    partner = another(place, rng, N)
    side = (1 - shares("cutmix", rng, N, alpha, mostly_own)) ** 0.5  # (N,), as a part of the image's
    box = random_boxes_cut_off(rng, (side * H).astype(int), (side * W).astype(int), H, W)
    top, bottom, left, right = box
    weight = 1 - (bottom - top) * (right - left) / (H * W)
    mixed = place.xp.where(inside(place, box, H, W), images[partner], images)
    return mixed, partner, place.to_device(weight.astype("float32"))


def another(place: Backend, rng: Generator, count: int) -> Array:
    """For each of `count` images another one, (count,): all in one random ring, and each has the one before it."""
    ring = rng.permutation(count)
    partner = ring.copy()
    partner[ring] = ring[[-1, *range(count - 1)]]
    return place.to_device(partner)


def shares(name: str, rng: Generator, count: int, alpha: float, mostly_own: bool) -> Array:
    """λ ~ Beta(α, α) on the host, (count,) float64; with `mostly_own` at least ½. Raises ValueError."""
    if not 0 < alpha < float("inf"):
        raise ValueError(f"{name}: expected alpha above 0, got {alpha}; 1 draws all shares alike")
    share = rng.beta(alpha, alpha, count)
    return backend.of(share).xp.maximum(share, 1 - share) if mostly_own else share


def random_boxes_cut_off(
    rng: Generator, height: Array, width: Array, H: int, W: int
) -> tuple[Array, Array, Array, Array]:
    """Top, bottom, left and right of boxes of these heights and widths (N,), with centres anywhere in an image of
    H x W pixels; what falls outside is cut off. Integers (N,) on the host; bottom and right are not in the box.
    """
    N = len(height)
    top = (rng.random(N) * H).astype(int) - height // 2
    left = (rng.random(N) * W).astype(int) - width // 2
    return top.clip(0, H), (top + height).clip(0, H), left.clip(0, W), (left + width).clip(0, W)


def inside(place: Backend, box: tuple[Array, Array, Array, Array], H: int, W: int) -> Array:
    """Whether a pixel lies in its image's box (`random_boxes_cut_off`): (N, H, W, 1)."""
    top, bottom, left, right = (place.to_device(edge)[:, None] for edge in box)  # (N, 1)
    row, column = place.xp.arange(H), place.xp.arange(W)
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)  # (N, H), (N, W)
    return (rows[:, :, None] & columns[:, None, :])[..., None]
