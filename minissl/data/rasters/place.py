"""Where a raster lies: its reference system and edges, whether two agree, and latitude and longitude of its middle."""

import math
from typing import NamedTuple

DEGREES = 4326  # EPSG: latitude and longitude on WGS 84
SAME_GRID, SAME_SPOT = 0.005, 0.25  # of a side: half a pixel of 100; what two acquisitions of a place may be apart


class Place(NamedTuple):
    """The edges of a raster in the units of its reference system `crs`, an EPSG number."""

    crs: int
    left: float
    top: float
    right: float
    bottom: float

    def __str__(self) -> str:
        corners = f"({self.left:.10g}, {self.top:.10g}) to ({self.right:.10g}, {self.bottom:.10g})"
        return f"{corners} in EPSG:{self.crs}"


def apart(a: Place | None, b: Place | None, tolerance: float = SAME_GRID) -> bool:
    """Whether two rasters show different ground: other systems, or an edge more than `tolerance` sides off.

    A raster that does not say where it lies, None, agrees with any other.
    """
    if a is None or b is None:
        return False
    side = max(abs(a.right - a.left), abs(a.top - a.bottom))
    return a.crs != b.crs or any(abs(x - y) > tolerance * side for x, y in zip(a[1:], b[1:], strict=True))


def middle(place: Place | None) -> tuple[float, float]:
    """Latitude and longitude in degrees of a raster's middle; NaN where it is unknown, or neither UTM nor degrees."""
    if place is None:
        return math.nan, math.nan
    x, y = (place.left + place.right) / 2, (place.top + place.bottom) / 2
    if place.crs == DEGREES:
        return y, x
    hemisphere, zone = divmod(place.crs, 100)
    if hemisphere not in (326, 327) or not 1 <= zone <= 60:  # EPSG:326zz is UTM zone zz north, 327zz south
        return math.nan, math.nan
    return from_utm(x, y, zone, south=hemisphere == 327)


def from_utm(easting: float, northing: float, zone: int, south: bool) -> tuple[float, float]:
    """UTM metres on WGS 84 to latitude and longitude in degrees, to a millimetre within a zone.

    Krüger's series of 1912 to the third order, as in Karney 2011, "Transverse Mercator with an accuracy of a few
    nanometers", equations 11, 12 and 35 to 37: from the map to the sphere of conformal latitude, then to the ellipsoid.
    """
    flattening = 1 / 298.257223563
    n = flattening / (2 - flattening)
    radius = 6378137.0 / (1 + n) * (1 + n**2 / 4 + n**4 / 64) * 0.9996
    xi, eta = (northing - 10_000_000 * south) / radius, (easting - 500_000) / radius
    to_sphere = (n / 2 - 2 * n**2 / 3 + 37 * n**3 / 96, n**2 / 48 + n**3 / 15, 17 * n**3 / 480)
    up = xi - sum(b * math.sin(2 * j * xi) * math.cosh(2 * j * eta) for j, b in enumerate(to_sphere, 1))
    across = eta - sum(b * math.cos(2 * j * xi) * math.sinh(2 * j * eta) for j, b in enumerate(to_sphere, 1))
    conformal = math.asin(math.sin(up) / math.cosh(across))
    to_ellipsoid = (2 * n - 2 * n**2 / 3 - 2 * n**3, 7 * n**2 / 3 - 8 * n**3 / 5, 56 * n**3 / 15)
    latitude = conformal + sum(d * math.sin(2 * j * conformal) for j, d in enumerate(to_ellipsoid, 1))
    longitude = math.atan2(math.sinh(across), math.cos(up))
    return math.degrees(latitude), math.degrees(longitude) + 6 * zone - 183
