"""Sentinel-1 beside the images of a data set: "sar" (N, H, W, 2), backscatter in VV and VH, in dB."""

from typing import Any

from minissl.data import DataSet

FLOOR, CEILING = -25.0, 0.0  # dB: below is noise, above are single bright reflectors


def scaled(decibels: Any) -> Any:
    """Backscatter as images have it, FLOOR dB as 0 and CEILING dB as 1, clipped: float32."""
    return ((decibels.clip(FLOOR, CEILING) - FLOOR) / (CEILING - FLOOR)).astype("float32")


def decibels(scaled: Any) -> Any:
    """What `scaled` came of."""
    return scaled * (CEILING - FLOOR) + FLOOR


def check(data: DataSet, asked_by: str) -> None:
    """Raise ValueError where there is no Sentinel-1 picture beside every image, or one has holes."""
    expected = (len(data), *data["images"].shape[1:3], 2)
    if "sar" not in data or data["sar"].shape != expected:
        found = f"has shape {data['sar'].shape}" if "sar" in data else "is not there"
        raise ValueError(
            f"{asked_by}: expected an array 'sar' {expected}, VV and VH in dB, in data {data.name!r}; it {found}; "
            "use scenes, or data with Sentinel-1 pictures"
        )
    if holes := sum(int((~(abs(data["sar"][i : i + 256]) < 1000)).sum()) for i in range(0, len(data), 256)):
        raise ValueError(f"{asked_by}: {holes} values of 'sar' in data {data.name!r} are NaN or infinite; fill them")
