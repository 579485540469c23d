"""Parametric solids as triangles, and `Kit`, which collects them into one coloured model.

A solid is (vertices [V, 3], normals [V, 3], faces [F, 3]): normals are shared where a surface is smooth and
doubled along its edges, so that one interpolation rule serves balls and boxes alike. z points up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

Triangles = tuple[np.ndarray, np.ndarray, np.ndarray]
Vector = tuple[float, float, float]


def rotation(axis: str, degrees: float) -> np.ndarray:
    """The right-handed rotation [3, 3] about axis "x", "y" or "z"."""
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    matrix = np.eye(3)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix[j, j], matrix[j, k], matrix[k, j], matrix[k, k] = c, -s, s, c
    return matrix


@lru_cache(maxsize=64)
def _grid_faces(rows: int, columns: int) -> np.ndarray:
    """Two triangles for every cell of a grid of rows x columns vertices."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    first = np.stack([corner, corner + 1, corner + columns + 1], 1)
    second = np.stack([corner, corner + columns + 1, corner + columns], 1)
    return np.concatenate([first, second])


@lru_cache(maxsize=8)
def _circle(segments: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


@lru_cache(maxsize=1)
def unit_box() -> Triangles:
    """The cube [-0.5, 0.5]^3 with flat faces."""
    vertices, normals, faces = [], [], []
    for axis in range(3):
        for side in (-1.0, 1.0):
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            normal = side * np.eye(3)[axis]
            start = 4 * len(faces)
            vertices += [
                0.5 * (normal + a * u + side * b * v) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
            ]
            normals += [normal] * 4
            faces.append([[start, start + 1, start + 2], [start, start + 2, start + 3]])
    return np.array(vertices), np.array(normals), np.array(faces).reshape(-1, 3)


def lathe(profile: np.ndarray, segments: int, smooth: bool) -> Triangles:
    """A surface of revolution about z from (radius, height) points [P, 2], outside to their right.

    Going up the outside of a bottle is the right order. `smooth` shares normals between profile edges.
    """
    profile = np.asarray(profile, float)
    step = np.diff(profile, axis=0)
    edge_normal = np.stack([step[:, 1], -step[:, 0]], 1)
    edge_normal /= np.maximum(np.linalg.norm(edge_normal, axis=1, keepdims=True), 1e-12)
    if smooth:
        rows = profile
        row_normal = np.concatenate([edge_normal[:1], edge_normal[1:] + edge_normal[:-1], edge_normal[-1:]])
        row_normal /= np.maximum(np.linalg.norm(row_normal, axis=1, keepdims=True), 1e-12)
        faces = _grid_faces(len(rows), segments + 1)
    else:
        rows = np.repeat(profile, 2, axis=0)[1:-1]
        row_normal = np.repeat(edge_normal, 2, axis=0)
        strip = _grid_faces(2, segments + 1)
        offsets = 2 * (segments + 1) * np.arange(len(edge_normal))
        faces = (strip[None] + offsets[:, None, None]).reshape(-1, 3)
    circle = _circle(segments)
    vertices = np.empty((len(rows), segments + 1, 3))
    vertices[..., :2] = rows[:, None, :1] * circle
    vertices[..., 2] = rows[:, 1:]
    normals = np.empty_like(vertices)
    normals[..., :2] = row_normal[:, None, :1] * circle
    normals[..., 2] = row_normal[:, 1:]
    vertices, normals = vertices.reshape(-1, 3), normals.reshape(-1, 3)
    on_axis = np.hypot(vertices[:, 0], vertices[:, 1]) < 1e-9
    if on_axis.any():
        dead = on_axis[faces].sum(1) > 1
        faces = faces[~dead]
    return vertices, normals, faces


@lru_cache(maxsize=16)
def unit_ball(segments: int) -> Triangles:
    """The ball of radius 1."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    radius = np.cos(angle)
    radius[[0, -1]] = 0
    vertices, _, faces = lathe(np.stack([radius, np.sin(angle)], 1), segments, smooth=True)
    return vertices, vertices, faces


@lru_cache(maxsize=16)
def unit_cylinder(segments: int) -> Triangles:
    """Radius 1, z from -0.5 to 0.5, closed."""
    return lathe(np.array([[0, -0.5], [1, -0.5], [1, 0.5], [0, 0.5]]), segments, smooth=False)


def torus(radius: float, thickness: float, segments: int, arc: float = 360.0) -> Triangles:
    """A ring about z; `thickness` is the radius of its tube, `arc` the degrees it runs (from +x, about z)."""
    around = np.radians(np.linspace(0, arc, segments + 1))
    tube = _circle(max(8, segments // 2))
    spoke = np.stack([np.cos(around), np.sin(around), np.zeros_like(around)], 1)
    normals = tube[None, :, :1] * spoke[:, None] + tube[None, :, 1:] * np.array([0.0, 0.0, 1.0])
    vertices = radius * spoke[:, None] + thickness * normals
    faces = _grid_faces(segments + 1, len(tube))
    return vertices.reshape(-1, 3), normals.reshape(-1, 3), faces


def extrude(outline: np.ndarray, depth: float) -> Triangles:
    """A prism: an (x, z) outline [P, 2], star-shaped about its mean, `depth` thick about y = 0."""
    outline = np.asarray(outline, float)
    count = len(outline)
    ring = np.concatenate([outline, outline[:1]])
    solid: list[Triangles] = []
    for side in (-0.5, 0.5):
        cap = np.concatenate([outline.mean(0, keepdims=True), ring])
        vertices = np.stack([cap[:, 0], np.full(len(cap), side * depth), cap[:, 1]], 1)
        spokes = np.arange(1, count + 1)
        faces = np.stack([np.zeros_like(spokes), spokes, spokes + 1], 1)
        solid.append((vertices, np.tile([0.0, 2 * side, 0.0], (len(cap), 1)), faces))
    start, end = ring[:-1], ring[1:]
    normal = np.stack([(end - start)[:, 1], np.zeros(count), -(end - start)[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    area = np.sum(start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0])
    corners = np.empty((count, 4, 3))
    corners[:, :2, [0, 2]], corners[:, 2:, [0, 2]] = start[:, None], end[:, None]
    corners[..., 1] = np.array([-0.5, 0.5, 0.5, -0.5]) * depth
    quads = 4 * np.arange(count)[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])
    solid.append((corners.reshape(-1, 3), np.repeat(normal * np.sign(area), 4, axis=0), quads.reshape(-1, 3)))
    return join(solid)


def loft(sections: np.ndarray) -> Triangles:
    """A smooth skin over cross sections [S, P, 3], open at all four borders."""
    rows, columns = sections.shape[:2]
    along, across = np.gradient(sections, axis=0), np.gradient(sections, axis=1)
    normals = np.cross(along, across).reshape(-1, 3)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return sections.reshape(-1, 3), normals, _grid_faces(rows, columns)


def join(solids: list[Triangles]) -> Triangles:
    """Several solids as one."""
    starts = np.cumsum([0] + [len(solid[0]) for solid in solids])
    faces = [solid[2] + start for solid, start in zip(solids, starts[:-1], strict=True)]
    return (
        np.concatenate([solid[0] for solid in solids]),
        np.concatenate([solid[1] for solid in solids]),
        np.concatenate(faces),
    )


@dataclass
class Kit:
    """Collects the parts of one thing. Colours are palette names; "main" is the thing's own."""

    segments: int
    parts: list[tuple[Triangles, str]] = field(default_factory=list)
    stand: tuple[float, float] | None = None
    """Height and half width of the flat place on the z axis where another thing can stand."""

    def add(
        self, solid: Triangles, at: Vector = (0, 0, 0), colour: str = "main", turn: np.ndarray | None = None
    ) -> None:
        """Put a solid at a place, turned by a rotation [3, 3]."""
        vertices, normals, faces = solid
        if turn is not None:
            vertices, normals = vertices @ turn.T, normals @ turn.T
        self.parts.append(((vertices + np.asarray(at, float), normals, faces), colour))

    def box(self, size: Vector, at: Vector, colour: str = "main", turn: np.ndarray | None = None) -> None:
        """A box with edges `size`, centred at `at`."""
        vertices, normals, faces = unit_box()
        self.add((vertices * np.asarray(size, float), normals, faces), at, colour, turn)

    def ball(
        self, radii: float | Vector, at: Vector, colour: str = "main", turn: np.ndarray | None = None
    ) -> None:
        """A ball, or an ellipsoid if three radii are given, centred at `at`; small ones have fewer faces."""
        scale = np.broadcast_to(np.asarray(radii, float), 3)
        share = 1 if scale.max() > 0.2 else 2 if scale.max() > 0.08 else 3
        segments = max(8, self.segments // share)
        vertices, normals, faces = unit_ball(segments)
        self.add((vertices * scale, normals / scale, faces), at, colour, turn)

    def rod(
        self, radius: float, length: float, at: Vector, colour: str = "main", turn: np.ndarray | None = None
    ) -> None:
        """A closed cylinder along z, centred at `at`."""
        vertices, normals, faces = unit_cylinder(
            self.segments if radius > 0.12 else max(8, self.segments // 2)
        )
        self.add((vertices * np.array([radius, radius, length]), normals, faces), at, colour, turn)

    def lathe(
        self,
        profile: Sequence[tuple[float, float]] | np.ndarray,
        at: Vector = (0, 0, 0),
        colour: str = "main",
        smooth: bool = False,
        turn: np.ndarray | None = None,
    ) -> None:
        """A surface of revolution; see `lathe`."""
        self.add(lathe(np.asarray(profile, float), self.segments, smooth), at, colour, turn)

    def finish(self) -> tuple[Triangles, list[tuple[str, int]]]:
        """All parts as one solid, and (colour, number of faces) for each in turn."""
        solid = join([part for part, _ in self.parts])
        return solid, [(colour, len(part[2])) for part, colour in self.parts]
