"""Toybox: a small procedural world of captioned, rendered toys that mini is trained and judged on.

Scenes are pure functions of (split, index). `render` gives a picture, `Scene.mesh` and `Scene.cloud` a shape.
"""

from .scenes import SPLITS, Scene, Toy, make_scene
from .vocabulary import COLOURS, FINISHES, RELATIONS, SIZES, THINGS, is_held_out

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
]
