"""Toybox: a small procedural world of captioned, rendered toys that mini is trained and judged on.

Scenes are pure functions of (split, index). `render` gives a picture, `Scene.mesh` and `Scene.cloud` a shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .scenes import SPLITS, Scene, make_scene
from .toy import Toy
from .vocabulary import COLOURS, FINISHES, RELATIONS, SIZES, THINGS, is_held_out

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "COLOURS",
    "FINISHES",
    "RELATIONS",
    "SIZES",
    "SPLITS",
    "THINGS",
    "Scene",
    "Toy",
    "is_held_out",
    "make_scene",
    "render",
]


def render(scene: Scene, size: int = 64) -> np.ndarray:
    """The scene's picture, RGB uint8 [size, size, 3]; the ray caster is imported at the first call.

    Raises ValueError for a size outside 8 to 1,024 pixels, TypeError for one that is no integer.
    """
    from .renderer import render as cast

    return cast(scene, size)
