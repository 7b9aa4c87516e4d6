"""Places within a circle, a box or a polygon: over many at once, for filters. Latitudes and longitudes in degrees."""

import numpy as np
import numpy.typing as npt

from ergonaut_vectors.domain.payload.bits import Mask
from ergonaut_vectors.domain.payload.filters import Box, Near, Polygon

Places = npt.NDArray[np.float64]
"""[count, 2]: latitude and longitude."""

Degrees = npt.NDArray[np.float64]

EARTH_RADIUS_METERS = 6_371_008.8
"""The mean radius; a round Earth is off by at most half a percent."""

_METERS_A_DEGREE = np.pi * EARTH_RADIUS_METERS / 180


def within(places: Places, shape: Near | Box | Polygon) -> Mask:
    """Which of the places lie within the shape, its edge included where the shape is a circle or a box."""
    if isinstance(shape, Box):
        return _within_box(places, shape)
    candidates = np.flatnonzero(_within_box(places, _box_around(shape)))
    near = places[candidates]
    inside = _within_circle(near, shape) if isinstance(shape, Near) else _within_polygon(near, shape)
    mask = np.zeros(len(places), np.bool_)
    mask[candidates[inside]] = True
    return mask


def distances_meters(places: Places, centre: tuple[float, float]) -> npt.NDArray[np.float64]:
    """How far the places are from another, along a great circle."""
    latitudes, longitudes = np.radians(places[:, 0]), np.radians(places[:, 1])
    latitude, longitude = np.radians(centre)
    # The haversine formula, which stays exact for small distances.
    squared = (
        np.sin((latitudes - latitude) / 2) ** 2
        + np.cos(latitudes) * np.cos(latitude) * np.sin((longitudes - longitude) / 2) ** 2
    )
    meters: npt.NDArray[np.float64] = 2 * EARTH_RADIUS_METERS * np.arcsin(np.sqrt(np.minimum(squared, 1.0)))
    return meters


def _within_box(places: Places, box: Box) -> Mask:
    latitudes, longitudes = places[:, 0], places[:, 1]
    if box.west <= box.east:
        wide = (longitudes >= box.west) & (longitudes <= box.east)
    else:
        wide = (longitudes >= box.west) | (longitudes <= box.east)
    if box.east == 180 or box.west == -180:
        wide |= np.abs(longitudes) == 180  # one meridian, by two numbers
    return wide & (latitudes >= box.south) & (latitudes <= box.north)


def _within_circle(places: Places, circle: Near) -> Mask:
    mask: Mask = distances_meters(places, circle.centre) <= circle.radius_meters
    return mask


def _within_polygon(places: Places, polygon: Polygon) -> Mask:
    """A ray from a place towards the east crosses the edges an odd number of times."""
    latitudes, longitudes = _unwrapped(polygon)
    # Every place is moved by whole turns to where the polygon is, should it lie over the date line.
    middle = (longitudes.min() + longitudes.max()) / 2
    lats, lons = places[:, 0], places[:, 1] + 360 * np.round((middle - places[:, 1]) / 360)
    inside = np.zeros(len(places), np.bool_)
    for at in range(len(latitudes)):
        latitude, longitude = latitudes[at - 1], longitudes[at - 1]
        crossing = (latitudes[at] > lats) != (latitude > lats)
        if not crossing.any():
            continue
        slope = (longitude - longitudes[at]) / (latitude - latitudes[at])
        inside ^= crossing & (lons < longitudes[at] + slope * (lats - latitudes[at]))
    return inside


def _unwrapped(polygon: Polygon) -> tuple[Degrees, Degrees]:
    """Corners so that each edge takes the shorter way around the Earth."""
    corners = np.array(polygon.corners)
    longitudes = np.unwrap(corners[:, 1], period=360)
    return corners[:, 0], longitudes


def _box_around(shape: Near | Polygon) -> Box:
    if isinstance(shape, Polygon):
        latitudes, longitudes = _unwrapped(shape)
        return _box(shape.field, latitudes.min(), latitudes.max(), longitudes.min(), longitudes.max())
    latitude, longitude = shape.centre
    high = shape.radius_meters / _METERS_A_DEGREE * 1.0001 + 1e-9  # a little more: the exact comparison comes after
    south, north = latitude - high, latitude + high
    if south <= -90 or north >= 90:  # a pole is within: every meridian is
        return Box(shape.field, max(south, -90.0), -180.0, min(north, 90.0), 180.0)
    reach = np.sin(np.radians(min(high, 90.0))) / np.cos(np.radians(latitude))
    wide = np.degrees(np.arcsin(min(1.0, float(reach)))) * 1.0001 + 1e-9
    return _box(shape.field, south, north, longitude - wide, longitude + wide)


def _box(field: str, south: float, north: float, west: float, east: float) -> Box:
    if east - west >= 360:
        return Box(field, south, -180.0, north, 180.0)
    return Box(field, south, _turned(west), north, _turned(east))


def _turned(longitude: float) -> float:
    """The same meridian between -180 and 180, both of which stay what they are."""
    return float(longitude) if -180 <= longitude <= 180 else float((longitude + 180) % 360 - 180)
