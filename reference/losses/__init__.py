"""Pictures of the losses: forces on a plane, what temperature does, and which loss is which.

python -m reference losses [--out runs/losses]
"""

import argparse
from pathlib import Path

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Draw all pictures and print the measured identities."""
    p = argparse.ArgumentParser(prog="python -m reference losses", description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, default=Path("runs", "losses"), help="folder (default: %(default)s)")
    p.add_argument("--grid", type=int, default=41, help="points along a side of a map of the loss (default: 41)")
    options = p.parse_args(arguments)
    if options.grid < 5:
        raise ValueError(f"--grid: expected at least 5 points along a side, got {options.grid}")
    options.out.mkdir(parents=True, exist_ok=True)

    from reference.losses import (
        family,
        identities,
        maps,
        shares,
    )  # they bring matplotlib in: --help has not waited for it

    for picture in maps.PICTURES:
        picture(options.out, options.grid)
    shares.draw(options.out)
    found = identities.measured()
    family.draw(found, options.out)
    print(identities.table(found))
    print(f"Pictures in {options.out}: " + ", ".join(sorted(file.name for file in options.out.glob("*.png"))))
