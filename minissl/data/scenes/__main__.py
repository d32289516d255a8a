"""A contact sheet of the scenes: `python -m minissl.data.scenes [path] [--size 64] [--seed 0] [--columns 10]`."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minissl.data.scenes import CLASSES, generate

GAP = 4


def contact_sheet(columns: int = 10, size: int = 64, seed: int = 0, zoom: int = 2) -> Image.Image:
    """A picture with one row of `columns` scenes per class, the class's name in front."""
    scenes = generate(columns * len(CLASSES), size, seed)
    tile, font = size * zoom, ImageFont.load_default(size=18)
    margin = int(max(font.getlength(name) for name in CLASSES)) + 4 * GAP
    sheet = Image.new("RGB", (margin + columns * (tile + GAP), len(CLASSES) * (tile + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(CLASSES):
        top = GAP + row * (tile + GAP)
        draw.text((2 * GAP, top + tile // 2), name, fill="black", font=font, anchor="lm")
        for column, index in enumerate(np.flatnonzero(scenes["labels"] == row)):
            scene = Image.fromarray(scenes["images"][index]).resize((tile, tile), Image.Resampling.NEAREST)
            sheet.paste(scene, (margin + column * (tile + GAP), top))
    return sheet


def main() -> None:
    """Write the sheet and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m minissl.data.scenes", description="Draw scenes of every class.")
    parser.add_argument("path", nargs="?", type=Path, default=Path("runs/scenes.png"), help="where the PNG goes")
    parser.add_argument("--columns", type=int, default=10, help="scenes per class")
    parser.add_argument("--size", type=int, default=64, help="pixels per side of a scene")
    parser.add_argument("--seed", type=int, default=0, help="which world")
    arguments = parser.parse_args()
    arguments.path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(arguments.columns, arguments.size, arguments.seed).save(arguments.path)
    print(arguments.path)


if __name__ == "__main__":
    main()
