"""Grids of images with titles, drawn by Pillow."""

import math
import os
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["GREY", "RIGHT", "WRONG", "framed", "image_grid"]

TILE = 96  # pixels: the smallest shorter side at which a reader sees what a tile shows
GAP, MARGIN = 6, 14
INK, PAPER, EDGE = (20, 20, 20), (255, 255, 255), (190, 190, 190)
RIGHT, WRONG, GREY = (0.0, 0.62, 0.45), (0.84, 0.2, 0.0), (0.75, 0.75, 0.75)  # frames: a green, a red, no answer
NODATA = (190, 170, 210)  # a pale violet, which neither land nor water has
# Pillow's default font draws a box for accents, Greek and many signs: accents are dropped, and these are spelled.
SPELLED = str.maketrans(
    {"×": "x", "−": "-", "–": "-", "—": "-", "→": "->", "≤": "<=", "≥": ">=", "⁄": "/", "√": "sqrt", "∞": "inf"}
    | {"α": "alpha", "β": "beta", "γ": "gamma", "λ": "lambda", "μ": "mu", "π": "pi", "σ": "sigma", "τ": "tau"}
)


def image_grid(
    rows: Sequence[Sequence[np.ndarray | None]] | np.ndarray,
    path: str | os.PathLike[str],
    row_titles: Sequence[str] | None = None,
    column_titles: Sequence[str] | None = None,
    title: str | None = None,
    scale: int | None = None,
) -> None:
    """Draw `rows` of images, (H, W, C) each or all in one array (R, K, H, W, C), with titles, into the file `path`.

    C is 1 (grey) or 3 (red, green, blue). uint8 is drawn as it is; bool and float are drawn from 0 (black) to 1, and
    what lies outside is clipped, since reconstructions overshoot. NaN (no data, masked) is pale violet. None leaves a
    cell empty. Images may differ in size. Each is enlarged by the integer `scale`, every pixel a square; by default by
    the smallest that makes its shorter side at least 96 pixels. Titles wrap and never overlap.

    Raises ValueError for another shape or dtype, no image at all, and titles that do not match the rows or columns.
    """
    tiles = [[_tile(image, f"row {i}, column {j}", scale) for j, image in enumerate(row)] for i, row in enumerate(rows)]
    drawn = [tile for row in tiles for tile in row if tile is not None]
    if not drawn:
        raise ValueError("image_grid: there is no image to draw")
    count = max(len(row) for row in tiles)
    for name, titles, expected in (("row", row_titles, len(tiles)), ("column", column_titles, count)):
        if titles is not None and len(titles) != expected:
            raise ValueError(f"image_grid: expected {expected} {name} titles, one per {name}, got {len(titles)}")

    small, large = ImageFont.load_default(size=15), ImageFont.load_default(size=20)
    cell_width, cell_height = max(tile.width for tile in drawn), max(tile.height for tile in drawn)
    beside = [_wrap(text, 190, small) for text in row_titles or [""] * len(tiles)]
    above = [_wrap(text, cell_width, small) for text in column_titles or [""] * count]
    left = MARGIN + max(_size(text, small)[0] for text in beside)
    left += GAP * (left > MARGIN)
    width = left + count * (cell_width + GAP) - GAP + MARGIN
    heading = _wrap(title or "", max(width, 360) - 2 * MARGIN, large)
    width = max(width, _size(heading, large)[0] + 2 * MARGIN)

    # From top to bottom: the heading, the column titles (they stand on their images), the rows.
    below_heading = MARGIN + (_size(heading, large)[1] + 2 * GAP if heading else 0)
    top = below_heading + max(_size(text, small)[1] for text in above) + (GAP if any(above) else 0)
    heights = [max(cell_height, _size(text, small)[1]) for text in beside]
    page = Image.new("RGB", (width, top + sum(heights) + GAP * (len(heights) - 1) + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    draw.multiline_text((MARGIN, MARGIN), heading, INK, large)
    for j, text in enumerate(above):
        x = left + j * (cell_width + GAP) + cell_width // 2
        draw.multiline_text((x, top - GAP), text, INK, small, anchor="md", align="center")
    y = top
    for row, text, height in zip(tiles, beside, heights, strict=True):
        draw.multiline_text((left - GAP, y + height // 2), text, INK, small, anchor="rm", align="right")
        for j, tile in enumerate(row):
            if tile is not None:
                x = left + j * (cell_width + GAP) + (cell_width - tile.width) // 2
                above_tile = y + (height - tile.height) // 2
                # An edge just outside the tile: without it a white mask has no shape on white paper.
                draw.rectangle((x - 1, above_tile - 1, x + tile.width, above_tile + tile.height), outline=EDGE)
                page.paste(tile, (x, above_tile))
        y += height + GAP
    page.save(path)


def framed(image: np.ndarray, colour: tuple[float, float, float], width: int = 2) -> np.ndarray:
    """An image (H, W, 1 or 3) in a frame: (H + 2·width, W + 2·width, 3)."""
    H, W, _ = image.shape
    page = np.full((H + 2 * width, W + 2 * width, 3), colour)
    page[width : width + H, width : width + W] = image
    return page


def _tile(image: np.ndarray | None, where: str, scale: int | None) -> Image.Image | None:
    """One image as Pillow has it, enlarged."""
    if image is None:
        return None
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or not image.size:
        raise ValueError(
            f"image_grid: expected images (H, W, 1) or (H, W, 3), got {image.shape} in {where}; "
            "choose three bands of a multispectral image, as in image[..., [3, 2, 1]]"
        )
    if image.dtype != np.uint8:
        if image.dtype != np.bool_ and not np.issubdtype(image.dtype, np.floating):
            raise ValueError(
                f"image_grid: expected uint8, bool or float in [0, 1], got {image.dtype} in {where}; scale it"
            )
        missing = np.isnan(image).any(-1)
        image = np.rint(255 * np.clip(np.nan_to_num(image.astype(np.float32)), 0, 1)).astype(np.uint8)
        if missing.any():
            image = np.where(missing[..., None], np.array(NODATA, np.uint8), image)
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    factor = scale or math.ceil(TILE / min(image.shape[:2]))
    return Image.fromarray(np.ascontiguousarray(image.repeat(factor, 0).repeat(factor, 1)))


def _size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    """Width and height of wrapped text in pixels."""
    if not text:
        return 0, 0
    left, top, right, bottom = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font)
    return math.ceil(right - min(left, 0)), math.ceil(bottom - min(top, 0))


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """`text` broken into lines of at most `width` pixels: between words, and inside a word too long for one."""
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).translate(SPELLED)
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}" if line else word
            if font.getlength(joined) > width and line:
                lines.append(line)
                joined = word
            while font.getlength(joined) > width and len(joined) > 1:
                fits = next(n for n in range(len(joined) - 1, 0, -1) if n == 1 or font.getlength(joined[:n]) <= width)
                lines.append(joined[:fits])
                joined = joined[fits:]
            line = joined
        lines.append(line)
    return "\n".join(lines)
