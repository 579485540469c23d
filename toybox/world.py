"""From words to triangles: the things of a scene, built, sized and placed.

The world is a unit cube on the floor: x to the right, y away from the camera, z up, centred on x = y = 0. Sizes
are shares of that cube, so "small" is small in pictures, meshes and clouds alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .colours import palette, to_linear
from .solids import Kit, rotation
from .things import BUILDERS, YAWS
from .toy import Toy

# How large a lone thing looks, see `Body.looks`.
EXTENT = {None: (0.58, 0.70), "small": (0.37, 0.44), "large": (0.80, 0.88)}
# How large the things of a pair are, next to each other.
RELATIVE = {None: (0.92, 1.08), "small": (0.56, 0.66), "large": (1.3, 1.45)}
GLOSS = {None: (0.0, 0.3), "matte": (0.0, 0.0), "shiny": (0.9, 1.0)}


@dataclass
class Body:
    """Triangles with smooth normals; `albedo` (linear RGB) and `gloss` (0 matte to 1 shiny) are per face.

    `stand` is where another thing can stand: a point [3], and the half width of the place.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    albedo: np.ndarray
    gloss: np.ndarray
    stand: tuple[np.ndarray, float]

    def move(self, scale: float, offset: np.ndarray | tuple[float, float, float]) -> None:
        """Scale about the origin, then shift, in place."""
        self.vertices = self.vertices * np.float32(scale) + np.asarray(offset, np.float32)
        point, half = self.stand
        self.stand = (point * scale + np.asarray(offset), half * scale)

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest corner, [3] each."""
        return self.vertices.min(0), self.vertices.max(0)

    def looks(self) -> float:
        """How large the body looks: between its longest side and the side of a square that covers as much."""
        width, depth, height = np.ptp(self.vertices, axis=0).tolist()
        return 0.5 * max(width, depth, height) + 0.5 * (width * (0.9 * height + 0.4 * depth)) ** 0.5

    def settle(self, longest: float) -> None:
        """Scale to a longest side, put the box's middle on the z axis and its foot on the floor."""
        low, high = self.box()
        scale = longest / (high - low).max()
        middle = (low + high) / 2
        self.move(scale, -scale * np.array([middle[0], middle[1], low[2]]))


def build(toy: Toy, rng: np.random.Generator, segments: int, turned: bool = True) -> Body:
    """A thing with its longest side 1, turned or with its front towards -y, settled on the floor."""
    kit = Kit(segments)
    BUILDERS[toy.thing](kit, rng)
    (vertices, normals, faces), parts = kit.finish()
    directions, stray = YAWS.get(toy.thing, ((0.0,), 180.0))
    yaw = directions[rng.integers(len(directions))] + rng.uniform(-stray, stray)
    turn = rotation("z", yaw if turned else 0.0).T
    colours = palette(toy.colour, rng)
    paints = to_linear(np.array([colours[name] for name, _ in parts])).astype(np.float32)
    albedo = np.repeat(paints, [count for _, count in parts], axis=0)
    gloss = np.full(len(faces), rng.uniform(*GLOSS[toy.finish]), np.float32)
    height, half = kit.stand or (0.0, 0.0)
    place = (np.array([0.0, 0.0, height]), half)
    vertices, normals = ((array @ turn).astype(np.float32) for array in (vertices, normals))
    body = Body(vertices, normals, faces.astype(np.int32), albedo, gloss, place)
    body.settle(1.0)
    return body


def _merge(first: Body, second: Body) -> Body:
    return Body(
        np.concatenate([first.vertices, second.vertices]),
        np.concatenate([first.normals, second.normals]),
        np.concatenate([first.faces, second.faces + len(first.vertices)]),
        np.concatenate([first.albedo, second.albedo]),
        np.concatenate([first.gloss, second.gloss]),
        second.stand,
    )


def _place(first: Body, second: Body, relation: str, rng: np.random.Generator) -> None:
    """Move the first body into its relation to the second, which stays."""
    (low, high), (other_low, other_high) = first.box(), second.box()
    width, depth, _ = high - low
    other_width, other_depth, _ = other_high - other_low
    if relation == "on top of":
        point, half = second.stand
        fit = min(1.0, 2.1 * half / max(width, depth))
        first.move(fit * rng.uniform(0.82, 1.0), point)
        return
    across, along = (width + other_width) / 2, (depth + other_depth) / 2
    if relation in ("left of", "right of"):
        x = across + rng.uniform(0.06, 0.2)
        x, y = (-x if relation == "left of" else x), rng.uniform(-0.1, 0.1)
    else:
        # The one behind stays visible: a third of the narrower one's width overlaps at most.
        x = across - rng.uniform(0.0, 0.33) * min(width, other_width)
        x = x if rng.random() < 0.5 else -x
        y = along + rng.uniform(0.1, 0.25)
        y = -y if relation == "in front of" else y
    first.move(1.0, (x, y, 0.0))


def assemble(
    toys: tuple[Toy, ...],
    relation: str | None,
    generator: Callable[[str], np.random.Generator],
    segments: int,
    turned: bool = True,
) -> Body:
    """The toys as one body inside the unit cube, the first in its relation to the other.

    `generator` gives the random numbers for each purpose; `segments` sets how finely round things are cut. turned: as
    the picture shows them; otherwise with their fronts towards -y.
    """
    bodies = [build(toy, generator(f"shape {place}"), segments, turned) for place, toy in enumerate(toys)]
    rng = generator("layout")
    if relation is None:
        bodies[0].settle(min(1.0, rng.uniform(*EXTENT[toys[0].size]) / bodies[0].looks()))
        return bodies[0]
    for body, toy in zip(bodies, toys, strict=True):
        body.settle(rng.uniform(*RELATIVE[toy.size]) / body.looks())
    first, second = bodies
    _place(first, second, relation, rng)
    both = _merge(first, second)
    both.settle(rng.uniform(0.93, 1.0))
    return both
