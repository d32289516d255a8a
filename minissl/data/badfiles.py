"""Files that cannot be used: named, collected over a whole set, and raised together or counted as skipped."""

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

logger = logging.getLogger("minissl.data")
Entry = TypeVar("Entry", bound=Hashable)
Result = TypeVar("Result")


class BadFile(ValueError):
    """A file or folder that cannot be used: its `path`, and why, and what to do about it."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"{path}: {reason}; {remedy}")
        self.path = path


def each(
    pool: ThreadPoolExecutor, function: Callable[[Entry], Result], entries: Iterable[Entry], bad: list[BadFile]
) -> dict[Entry, Result]:
    """The function's result for every entry; a BadFile is appended to `bad`, so that it doesn't hide the next one."""
    futures = {entry: pool.submit(function, entry) for entry in entries}
    results = {}
    for entry, future in futures.items():
        try:
            results[entry] = future.result()
        except BadFile as error:
            bad.append(error)
    return results


def settle(bad: list[BadFile], root: Path, found: int, left: int, what: str, skip: bool) -> list[str]:
    """Sort what was bad among the `found` entries and raise it as one ValueError, or with `skip` warn of it.

    Returns "path: reason; remedy" for each. Skipping down to nothing, `left` = 0, is a ValueError too.
    """
    bad.sort(key=lambda error: error.path)
    if bad and not skip:
        raise ValueError(_listed(bad, f"the {found} {what}{'es' if what[-2:] == 'ch' else 's'} of {root}")) from bad[0]
    if not left:
        raise ValueError(f"{root}: no {what} is left after skipping {len(bad)} bad files, the first: {bad[0]}")
    if bad:
        logger.warning("%s: skipped %d bad files\n  %s", root, len(bad), "\n  ".join(map(str, bad)))
    return [str(error) for error in bad]


def close_gaps(array: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """The rows `kept` (rising) of an array, moved to its front, in place: memory may be short."""
    for new, old in enumerate(kept):
        if new != old:
            array[new] = array[old]
    return array[: len(kept)]


def common(values: Iterable[Result], otherwise: Result) -> Result:
    """The most common value (on a tie, the first such)."""
    return (Counter(values).most_common(1) or [(otherwise, 0)])[0][0]


def pixels(height: int, width: int) -> str:
    return f"{height}x{width} pixels (H x W)"


def _listed(bad: list[BadFile], among: str, most: int = 10) -> str:
    lines = [f"{len(bad)} bad files among {among}:", *map(str, bad[:most])]
    more = [f"and {len(bad) - most} more"] if len(bad) > most else []
    return "\n  ".join([*lines, *more]) + "\nmend them as said, or skip them: --skip-bad-files (skip_bad_files=True)"
