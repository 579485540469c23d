"""How a scene is looked at: camera, key light and colours of the set, random within what reads well."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from .colours import to_linear
from .rays import cross
from .world import Body

DISTANCE = 4.0
HALF_WINDOW = 0.61
"""Half of the world's width that the picture shows at the target's distance."""
ELEVATION = {None: (14, 32), "behind": (27, 38), "in front of": (27, 38)}


@dataclass(frozen=True)
class View:
    """Camera, light and set, in float32; colours are linear RGB [3].

    `axes` [3, 3] are rows: right, up, forward. `slope` is half of the width seen at distance 1. `light` points
    from the scene to the key light, `light_axes` [2, 3] span its disk, whose radius is `spread`.
    """

    eye: np.ndarray
    axes: np.ndarray
    slope: float
    light: np.ndarray
    light_axes: np.ndarray
    spread: float
    key: np.ndarray
    sky: np.ndarray
    floor: np.ndarray
    backdrop: np.ndarray


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    """The unit vector [3] of an azimuth (degrees, 0 towards the camera, positive right) and elevation."""
    azimuth, elevation = np.radians(azimuth), np.radians(elevation)
    return np.array(
        [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)]
    )


def _axes(forward: np.ndarray) -> np.ndarray:
    """Right, up and forward as rows [3, 3]."""
    right = np.array([forward[1], -forward[0], 0.0]) / np.hypot(forward[0], forward[1])
    return np.stack([right, cross(right, forward), forward])


def _pale(rng: np.random.Generator) -> np.ndarray:
    """A pale colour, linear RGB [3]."""
    hue, saturation, value = rng.random(), rng.uniform(0.0, 0.13), rng.uniform(0.84, 0.97)
    return to_linear(np.array(colorsys.hsv_to_rgb(hue, saturation, value)))


def draw_view(rng: np.random.Generator, body: Body, relation: str | None = None) -> View:
    """A view of a body: the whole of it in the frame, its middle near the picture's middle."""
    out = _direction(0.0, rng.uniform(*ELEVATION.get(relation, ELEVATION[None])))
    axes = _axes(-out)
    flat = body.vertices @ axes.T
    low, high = flat[:, :2].min(0), flat[:, :2].max(0)
    middle = (low + high) / 2
    seen = (flat[:, :2] - middle) / (1 + flat[:, 2:] / DISTANCE)
    low, high = seen.min(0), seen.max(0)
    half_window = max(HALF_WINDOW, 1.15 * float((high - low).max()) / 2)
    target = (middle + (low + high) / 2 + rng.uniform(-0.03, 0.03, 2)) @ axes[:2]
    side = 1 if rng.random() < 0.5 else -1
    light = _direction(side * rng.uniform(20, 75), rng.uniform(42, 62))
    warmth = rng.uniform(-0.05, 0.05)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    arrays = {
        "eye": target + DISTANCE * out,
        "axes": axes,
        "light": light,
        "light_axes": _axes(-light)[:2],
        "key": rng.uniform(0.68, 0.80) * tint,
        "sky": rng.uniform(0.50, 0.60) / tint,
        "floor": _pale(rng),
        "backdrop": _pale(rng),
    }
    spread = rng.uniform(0.05, 0.14)
    singles = {name: value.astype(np.float32) for name, value in arrays.items()}
    return View(slope=half_window / DISTANCE, spread=spread, **singles)
