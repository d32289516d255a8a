"""A look at what a data set holds: `python -m minissl.viz.quicklook PATH [--out quicklook.png] [--count 6]`.

One row a sample, and in it, as far as the set has them:

    true colour     B4, B3, B2 as red, green, blue         false colour   B8, B4, B3: plants are red
    S1              VV from -20 to 0, VH from -26 to -8 and VV - VH from 2 to 14 dB as red, green, blue, power
                    averaged over 3x3 pixels against speckle: water is blue, plants and rough ground are green
    land cover      a colour for each class                seasons        each date in true colour, or as NDVI

Optical pictures start at the 2nd percentile of each band, which is mostly haze, and reach as far in every band as the
98th of the widest does, so that colours keep their balance; dark tones are lifted (gamma 0.7). For a series of one
place the mean NDVI over time is drawn beside it, into quicklook_series.png.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minissl.data import LAYOUTS, DataSet, evenly, open_data
from minissl.data.colours import RAMP, cover_colours, ndvi_colours, radar, stretched
from minissl.viz.curves import curves
from minissl.viz.images import image_grid

TRUE, FALSE, RADAR = ("B4", "B3", "B2"), ("B8", "B4", "B3"), ("VV", "VH")
TILE = 200  # pixels: about how high a sample is drawn
DATES = 8  # of a series, at most


def quicklook(data: DataSet, path: str | Path, count: int = 6) -> None:
    """Draw at most `count` samples from all over the data into the image file `path`."""
    shown = data.some(count)
    rows = [pictures(shown, row) for row in range(len(shown))]
    names = list(dict.fromkeys(name for row in rows for name in row))
    image_grid(
        [[row.get(name) for name in names] for row in rows],
        path,
        row_titles=[caption(shown, row) for row in range(len(shown))],
        column_titles=names,
        title=f"{data.name}: {len(shown)} of {len(data)} samples",
        scale=max(1, round(TILE / data["images"].shape[1])),
    )
    if "masks" in shown:
        covers = np.unique(shown["masks"])
        add_legend(path, "Land cover:", [(cover_name(data, int(cover)), cover_colours(cover)) for cover in covers])
    if any("NDVI" in name for name in names):
        ramp = np.array(list(RAMP))
        add_legend(path, "NDVI:", [(f"{v:g}", 255 * c) for v, c in zip(ramp, ndvi_colours(ramp), strict=True)])


def pictures(data: DataSet, row: int) -> dict[str, np.ndarray]:
    """The pictures of one sample, (H, W, 3) each, by their titles."""
    image, bands, found = data["images"][row], data.bands, {}
    if "seasons" in data:
        days = data["days"][row] if "days" in data else None
        for t in dates(data, row):
            coloured = set(TRUE) <= set(bands) or image.shape[-1] == 3
            kind = "true colour" if coloured else bands[0] if bands else "band 1"
            title = f"{kind}, date {t + 1}" + (f", day {days[t] + 1}" if days is not None and len(data) == 1 else "")
            found[title] = optical(data["seasons"][row, t], bands)
    elif bands == RADAR:
        found["S1: VV, VH, VV-VH"] = radar(image)
    else:
        coloured = set(TRUE) <= set(bands) or image.shape[-1] == 3
        found["true colour" if coloured else bands[0] if bands else "band 1"] = optical(image, bands)
    if set(FALSE) <= set(bands):
        found["false colour: B8, B4, B3"] = stretched(image[..., [bands.index(band) for band in FALSE]])
    if "sar" in data:
        found["S1: VV, VH, VV-VH"] = radar(data["sar"][row])
    if "masks" in data:
        found["land cover"] = cover_colours(data["masks"][row])
    return found


def optical(image: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """True colour where the bands are there, NDVI in its colours, three bands as they come, else the first in grey."""
    if set(TRUE) <= set(bands):
        return stretched(image[..., [bands.index(band) for band in TRUE]])
    if tuple(bands) == ("NDVI",):
        return ndvi_colours(image[..., 0])
    image = image if image.shape[-1] == 3 else image[..., :1]
    return image if image.dtype == np.uint8 else stretched(image)


def cover_name(data: DataSet, cover: int) -> str:
    """Where masks and labels have the same classes, their name, else the number."""
    named = data.classes == data.tags and cover < len(data.classes)
    return data.classes[cover] if named else "no class" if cover == 255 else f"class {cover}"


def dates(data: DataSet, row: int) -> np.ndarray:
    """At most DATES of a series, spread over those of which most can be seen."""
    T = data["seasons"].shape[1]
    seen = np.flatnonzero(data["valid"][row].mean(axis=(1, 2)) > 0.9) if "valid" in data else np.arange(T)
    return seen[evenly(len(seen), DATES)] if len(seen) else evenly(T, DATES)


def caption(data: DataSet, row: int) -> str:
    """Name, label, tags and place of a sample."""
    lines = [Path(str(data["path"][row])).name] if "path" in data else []
    if "labels" in data and data.classes:
        lines.append(f"label: {data.classes[data['labels'][row]]}")
    if "multi_labels" in data and data.tags:
        tags = [tag for tag, there in zip(data.tags, data["multi_labels"][row], strict=True) if there]
        lines.append("tags: " + "; ".join(tags))
    if "location" in data:
        latitude, longitude = data["location"][row]
        north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
        lines.append(f"{abs(latitude):.2f} {north}, {abs(longitude):.2f} {east}")
    if "days" in data and data["days"].shape[1] <= DATES:
        lines.append("day " + ", ".join(str(day + 1) for day in data["days"][row]) + " of the year")
    return "\n".join(lines)


def add_legend(path: str | Path, title: str, entries: Sequence[tuple[str, np.ndarray]]) -> None:
    """A title, then colours and their names, in lines below a picture."""
    with Image.open(path) as image:
        page = image.convert("RGB")
    font, box, line = ImageFont.load_default(size=15), 15, 24
    places, x, y = [], 14 + int(font.getlength(title)) + 12, page.height
    for name, _ in entries:
        width = box + 6 + int(font.getlength(name)) + 18
        if x + width > page.width and x > 14:
            x, y = 14, y + line
        places.append((x, y))
        x += width
    longer = Image.new("RGB", (page.width, y + line + 8), "white")
    longer.paste(page, (0, 0))
    draw = ImageDraw.Draw(longer)
    draw.text((14, page.height - 2), title, "black", font)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        draw.rectangle((left, top, left + box, top + box), tuple(int(c) for c in colour), (120, 120, 120))
        draw.text((left + box + 6, top - 2), name, "black", font)
    longer.save(path)


def draw_series(data: DataSet, path: str | Path) -> None:
    """The mean NDVI of the first place over its valid pixels, date by date."""
    seasons, days = data["seasons"][0], data["days"][0].astype(int)
    if data.bands == ("NDVI",):
        ndvi = np.asarray(seasons[..., 0], np.float64)
    else:
        red, infrared = (seasons[..., data.bands.index(band)].astype(np.float64) for band in ("B4", "B8"))
        ndvi = (infrared - red) / np.maximum(infrared + red, 1e-6)
    valid = data["valid"][0] if "valid" in data else np.ones(ndvi.shape, np.uint8)
    seen = valid.mean(axis=(1, 2)) > 0.5
    mean = (ndvi * valid).sum(axis=(1, 2)) / np.maximum(valid.sum(axis=(1, 2)), 1)
    since = days + 365 * np.concatenate([[0], np.cumsum(np.diff(days) < 0)])
    title = f"{data.name}: {seen.sum()} of {len(seen)} dates, where most pixels are valid"
    curves(
        {"mean NDVI": mean[seen].tolist()}, path, title, "days since 1 January of the first year", since[seen].tolist()
    )


def main() -> None:
    """Write the picture and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m minissl.viz.quicklook", description="Draw some of a data set.")
    parser.add_argument("data", help="a name or path, as minissl.data.open_data takes it")
    parser.add_argument("--out", type=Path, default=Path("runs/quicklook.png"), help="where the PNG goes")
    parser.add_argument("--count", type=int, default=6, help="samples")
    parser.add_argument("--layout", choices=LAYOUTS, help="of the path, where its names do not tell")
    parser.add_argument("--options", type=json.loads, default={}, help="of the layout's reader, as JSON")
    parser.add_argument("--skip-bad-files", action="store_true", help="leave out what cannot be used")
    arguments = parser.parse_args()
    data = open_data(
        arguments.data,
        count=100,
        skip_bad_files=arguments.skip_bad_files,
        layout=arguments.layout,
        options=arguments.options,
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    quicklook(data, arguments.out, arguments.count)
    print(arguments.out)
    told = data.bands == ("NDVI",) or {"B4", "B8"} <= set(data.bands)
    if "seasons" in data and "days" in data and len(data) == 1 and told:
        series = arguments.out.with_stem(arguments.out.stem + "_series")
        draw_series(data, series)
        print(series)


if __name__ == "__main__":
    main()
