"""Data sets that are downloaded by name into the user's cache, once, and checked."""

import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple


class Download(NamedTuple):
    """A zip of class folders: where it is, its checksum, the folder inside it that holds the classes, and its size."""

    url: str
    checksum: str
    folder: str
    megabytes: int


DOWNLOADS = {
    # Helber et al. 2019, "EuroSAT": 27,000 Sentinel-2 patches of 64x64 pixels, 10 classes; MIT licence.
    "eurosat": Download(
        url="https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip",
        checksum="md5:f46e308c4d50d4bf32fedad2d3d62f3b",  # as the Zenodo record states it
        folder="EuroSAT_RGB",
        megabytes=95,
    ),
}


class DownloadFailed(RuntimeError):
    """A named data set could not be fetched; the message says why and what to do."""


def fetch(name: str) -> Path:
    """The folder of a named data set, downloaded on first use.

    Raises ValueError for an unknown name, DownloadFailed without pooch or a connection, and on a wrong checksum.
    """
    if name not in DOWNLOADS:
        raise ValueError(f"{name!r} is no download; choose one of {', '.join(DOWNLOADS)}")
    entry = DOWNLOADS[name]
    try:
        import pooch
    except ImportError as error:
        raise DownloadFailed(f"downloading {name!r} needs pooch: pip install 'minissl[download]'") from error
    cache = Path(pooch.os_cache("minissl"))
    unpacked = cache / name
    if not unpacked.exists():
        try:
            archive = pooch.retrieve(entry.url, entry.checksum, fname=f"{name}.zip", path=cache)
        except (OSError, ValueError) as error:  # no connection, or pooch's wrong checksum
            remedy = (
                f"try again when connected, or unzip {entry.url} ({entry.megabytes} MB) and give its folder as PATH"
            )
            raise DownloadFailed(f"{name!r} could not be downloaded ({error}); {remedy}") from error
        _unpack(Path(archive), unpacked)
    return unpacked / entry.folder


def _unpack(archive: Path, folder: Path) -> None:
    """Unzip beside `folder` and rename at the end, so that an interrupted run leaves no half a data set."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside, zipfile.ZipFile(archive) as file:
        file.extractall(Path(aside, "files"))
        Path(aside, "files").rename(folder)
