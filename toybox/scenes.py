"""A scene: one or two things, how they stand to each other, and what that is called.

Scene `index` of a split is a pure function of (split, index). Words, shapes and view draw from generators
of their own, so that changing how one of them is drawn leaves the others as they were.
"""

from __future__ import annotations

import operator
import zlib
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .captions import write_caption
from .toy import Toy
from .vocabulary import COLOURS, FINISHES, RELATIONS, SIZES, SUPPORTS, THINGS, is_held_out

if TYPE_CHECKING:
    import trimesh

    from .world import Body

SPLITS = ("train", "val", "novel")
SINGLE_SHARE = 0.6
# For one thing: chance of each size and each finish being said. Pairs say less, or captions grow long.
SAID_SINGLE = 0.2
SAID_PAIR = 0.1


@dataclass(frozen=True)
class Scene:
    """One or two toys and their caption; seen by the camera, the first stands in `relation` to the other."""

    split: str
    index: int
    objects: tuple[Toy, ...]
    relation: str | None
    caption: str

    def attributes(self) -> dict:
        """Everything that the caption can say, as a dict of JSON types."""
        return {
            "split": self.split,
            "index": self.index,
            "objects": [
                {"thing": toy.thing, "colour": toy.colour, "size": toy.size, "finish": toy.finish}
                for toy in self.objects
            ],
            "relation": self.relation,
        }

    def mesh(self) -> trimesh.Trimesh:
        """The things as one trimesh.Trimesh with face colours: z up, centred, in [-0.5, 0.5].

        However it is turned in its picture, a lone thing has its front towards -y, in a frame of its own as the shapes
        have that Point-E was trained on; two stand as the camera sees them.
        """
        from .shape import mesh

        return mesh(self._shape())

    def cloud(self, points: int = 4096) -> np.ndarray:
        """Points spread evenly over all surface that can be seen from outside, float32 [points, 6].

        x, y, z in the mesh's frame, then the unlit colour, sRGB in [0, 1].
        Raises ValueError for fewer than 1 or more than 100,000 points, TypeError for a number that is no integer.
        """
        from .shape import cloud

        return cloud(self._shape(), points)

    def distances(self, count: int = 4096) -> np.ndarray:
        """Places and how far they lie from all surface that can be seen from outside, float32 [count, 4].

        x, y, z in the mesh's frame, two thirds of them near the surface, then the distance, negative where no way leads
        out. It is measured from a shell of 0.006 around the surface, which gives open sheets an inside.
        """
        from .shape import distances

        return distances(self._shape(), count, self.generator("distances"))

    def body(self, segments: int, turned: bool = True) -> Body:
        """The whole scene as one body inside the unit cube.

        segments: how finely round things are cut; turned: as the picture shows it, not with fronts towards -y.
        """
        from .world import assemble

        return assemble(self.objects, self.relation, self.generator, segments, turned)

    def _shape(self) -> Body:
        from .shape import SEGMENTS

        return self.body(SEGMENTS, turned=len(self.objects) > 1)

    def generator(self, stream: str) -> np.random.Generator:
        """The scene's own random numbers for one purpose (`stream` names it)."""
        return _generator(self.split, self.index, stream)


def _generator(split: str, index: int, stream: str) -> np.random.Generator:
    seed = (zlib.crc32(split.encode()), index, zlib.crc32(stream.encode()))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))


@cache
def _pairs(novel: bool, supports_only: bool = False) -> list[tuple[str, str]]:
    things = SUPPORTS if supports_only else THINGS
    return [(thing, colour) for thing in things for colour in COLOURS if is_held_out(thing, colour) == novel]


def _draw_toy(rng: np.random.Generator, pairs: list[tuple[str, str]], said: float) -> Toy:
    thing, colour = pairs[rng.integers(len(pairs))]
    size = SIZES[rng.integers(2)] if rng.random() < 2 * said else None
    finish = FINISHES[rng.integers(2)] if rng.random() < 2 * said else None
    return Toy(thing, colour, size, finish)


def make_scene(split: str, index: int) -> Scene:
    """Scene `index` (0, 1, …) of "train", "val" or "novel".

    `train` and `val` hold none of the held-out (thing, colour) pairs, `novel` nothing else.
    Raises ValueError for an unknown split or a negative index, TypeError for an index that is no integer.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    index = operator.index(index)
    if index < 0:
        raise ValueError(f"scene index is {index}: expected 0 or more")
    rng = _generator(split, index, "words")
    novel = split == "novel"
    if rng.random() < SINGLE_SHARE:
        relation = None
        objects: tuple[Toy, ...] = (_draw_toy(rng, _pairs(novel), SAID_SINGLE),)
    else:
        relation = RELATIONS[rng.integers(len(RELATIONS))]
        other = _draw_toy(rng, _pairs(novel, relation == "on top of"), SAID_PAIR)
        rest = [pair for pair in _pairs(novel) if pair[0] != other.thing]
        objects = (_draw_toy(rng, rest, SAID_PAIR), other)
    return Scene(split, index, objects, relation, write_caption(objects, relation, rng))


def true_captions(scene: Scene) -> list[str]:
    """The scene's own caption, then others that leave out what it says of sizes, of finishes, or of both."""
    rng = scene.generator("captions")
    shorter = (
        tuple(replace(toy, **dict.fromkeys(left_out)) for toy in scene.objects)
        for left_out in (("size",), ("finish",), ("size", "finish"))
    )
    different = [objects for objects in dict.fromkeys(shorter) if objects != scene.objects]
    return [scene.caption, *(write_caption(objects, scene.relation, rng) for objects in different)]
