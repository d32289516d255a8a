"""Scenes from the command line: a contact sheet, or a folder of any number of them.

python -m minissl.data.scenes [runs/scenes.png]
python -m minissl.data.scenes --write FOLDER --count 10000 [--bands s2] [--seasons 4] [--sar] [--workers 2]
"""

import argparse
from pathlib import Path
from typing import get_args

from minissl.data.scenes import Sampling, Sun, write
from minissl.data.scenes.sheet import contact_sheet


def main() -> None:
    """Draw the sheet, or write the folder, and print where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m minissl.data.scenes",
        description="Draw scenes of every class, or with --write make a folder of scenes that --data opens.",
    )
    parser.add_argument("path", nargs="?", type=Path, default=Path("runs/scenes.png"), help="where the PNG goes")
    parser.add_argument("--size", type=int, default=64, help="pixels per side of a scene")
    parser.add_argument("--seed", type=int, default=0, help="which world")
    folder = parser.add_argument_group("a folder of scenes")
    folder.add_argument("--write", type=Path, metavar="FOLDER", help="write scenes there, and draw nothing")
    folder.add_argument("--count", type=int, default=10_000, help="how many")
    folder.add_argument("--workers", type=int, default=2, help="processes that share the work")
    folder.add_argument("--bands", choices=("rgb", "s2"), default="rgb", help="true colour, or Sentinel-2's 13 bands")
    folder.add_argument("--sun", choices=get_args(Sun), default="orbit", help="where it stands")
    folder.add_argument("--seasons", type=int, default=0, metavar="T", help="days of the year on which places are seen")
    folder.add_argument("--sar", action="store_true", help="add Sentinel-1")
    folder.add_argument("--clouds", type=float, default=0.0, metavar="SHARE", help="share of images that have clouds")
    folder.add_argument("--sampling", choices=get_args(Sampling), default="uniform", help="where on Earth places lie")
    options = vars(parser.parse_args())
    path, out = options.pop("path"), options.pop("write")
    if out:
        write(out, **options)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(options["size"], options["seed"]).save(path)
    print(out or path)


if __name__ == "__main__":
    main()
