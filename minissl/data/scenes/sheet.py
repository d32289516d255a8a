"""A contact sheet of the scenes: a place of each class as each sensor sees it, through the year, and under clouds."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minissl.data.colours import LAND, land_colours, radar
from minissl.data.scenes.layout import COVERS
from minissl.data.scenes.place import CLASSES
from minissl.data.scenes.render import BANDS, true_colour
from minissl.data.scenes.world import generate

GAP = 6
SEASONS = 4
LATITUDE = 52  # of the places shown, as near as there are: there are woods in leaf and snow there
FIRST_DAYS = np.array((0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334))  # of the months
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def composite(seen: np.ndarray, *bands: str) -> np.ndarray:
    """Three bands of a picture (size, size, 13) as red, green and blue, each stretched: (size, size, 3) uint8."""
    chosen = seen[..., [BANDS.index(band) for band in bands]]
    return true_colour(0.3 * chosen / np.maximum(0.2, np.quantile(chosen, 0.98, axis=(0, 1))))


def natural(seen: np.ndarray) -> np.ndarray:
    """True colour, by one stretch for all: snow and clouds are white, and a hazy day is hazy."""
    return true_colour(seen[..., [BANDS.index(band) for band in ("B4", "B3", "B2")]])


def grey(decibels: np.ndarray) -> np.ndarray:
    """Backscatter from −25 to 0 dB as grey, (size, size, 3) uint8."""
    return np.repeat(np.rint(255 * np.clip(decibels / 25 + 1, 0, 1)).astype(np.uint8)[..., None], 3, axis=-1)


def date(day: int) -> str:
    """A day of the year, 0 to 364, as "1 Jan"."""
    month = int(np.searchsorted(FIRST_DAYS, day, side="right")) - 1
    return f"{day - FIRST_DAYS[month] + 1} {MONTHS[month]}"


def contact_sheet(size: int = 64, seed: int = 0, zoom: int = 2) -> Image.Image:
    """One row per class, a column per picture, and a legend of the land cover."""
    ten_of_each = 10 * len(CLASSES)
    scenes = generate(ten_of_each, size, seed, "s2", seasons=SEASONS, sar=True)
    cloudy = generate(ten_of_each, size, seed, "s2", clouds=1.0)
    columns: dict[str, Callable[[int], np.ndarray]] = {
        "image\nB4 B3 B2": lambda i: natural(scenes["images"][i]),
        "infrared\nB8 B4 B3": lambda i: composite(scenes["images"][i], "B8", "B4", "B3"),
        "short wave\nB12 B8 B4": lambda i: composite(scenes["images"][i], "B12", "B8", "B4"),
        "under clouds\nB4 B3 B2": lambda i: natural(cloudy["images"][i]),
        "Sentinel-1\nVV": lambda i: grey(scenes["sar"][i, ..., 0]),
        "Sentinel-1\nVH": lambda i: grey(scenes["sar"][i, ..., 1]),
        "Sentinel-1\nVV, VH, VV-VH": lambda i: np.rint(255 * radar(scenes["sar"][i])).astype(np.uint8),
        "land cover\nsee below": lambda i: land_colours(COVERS)[scenes["masks"][i]],
    }
    tile, font, small = size * zoom, ImageFont.load_default(size=16), ImageFont.load_default(size=13)
    left, top, line = int(max(font.getlength(name) for name in CLASSES)) + 4 * GAP, 44, 18
    lefts = range(left, left + (len(columns) + SEASONS) * (tile + GAP), tile + GAP)
    sheet = Image.new("RGB", (lefts.stop, top + len(CLASSES) * (tile + line) + 2 * line), "white")
    draw = ImageDraw.Draw(sheet)

    def put(picture: np.ndarray, x: int, y: int) -> None:
        sheet.paste(Image.fromarray(picture).resize((tile, tile), Image.Resampling.NEAREST), (x, y))

    titles = (*columns, *(f"season {t + 1}\nB4 B3 B2" for t in range(SEASONS)))
    for x, title in zip(lefts, titles, strict=True):
        draw.text((x, GAP), title, fill="black", font=small)
    for label, name in enumerate(CLASSES):
        y = top + label * (tile + line)
        i = nearest(scenes["location"][:, 0], np.flatnonzero(scenes["labels"] == label))
        latitude = scenes["location"][i, 0]
        where = f"{abs(latitude):.0f}° {'north' if latitude > 0 else 'south'}"
        draw.text((2 * GAP, y + tile // 2), f"{name}\n{where}", fill="black", font=font, anchor="lm")
        for x, picture in zip(lefts, columns.values(), strict=False):
            put(picture(i), x, y)
        for x, season, day in zip(lefts[len(columns) :], scenes["seasons"][i], scenes["days"][i], strict=True):
            put(natural(season), x, y)
            draw.text((x, y + tile + 1), date(day), fill="black", font=small)
    x, y = left, sheet.height - 2 * line + GAP
    for cover in COVERS:
        draw.rectangle((x, y, x + 20, y + 16), fill=LAND[cover], outline="black")
        draw.text((x + 26, y), cover, fill="black", font=small)
        x += 26 + int(small.getlength(cover)) + 4 * GAP
    return sheet


def nearest(latitudes: np.ndarray, places: np.ndarray) -> int:
    """Which of these places lies nearest to the latitude shown, north or south."""
    return int(places[np.abs(np.abs(latitudes[places]) - LATITUDE).argmin()])
