"""Pictures of scenes: ray casting with a soft key light, sky and floor light, contact shadows and highlights.

Every sample of a pixel looks at another point of the light and of the sky, so that shadows come out soft at one
shadow ray per sample, and each pixel uses the same pattern, so that they come out without noise.
"""

from __future__ import annotations

import operator
from functools import lru_cache

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore import EmbreeDevice
from embreex.rtcore_scene import EmbreeScene

from .colours import to_srgb
from .scenes import Scene
from .view import View, draw_view
from .world import Body, assemble

SMALLEST, LARGEST = 8, 1024
COARSE, FINE = 24, 48
"""Segments of a full circle in pictures up to 96 px, and in larger ones and meshes."""
CLEAR = np.float32(1e-3)
"""How far secondary rays start off a surface, in scene units."""
REACH = np.float32(0.6)
"""How far things darken each other's share of the sky."""
PIXEL_SAMPLES = 5
"""Rays per pixel. Being a lattice, no two share a row or column: edges get as many steps as from a 5 x 5 grid."""
FLOOR_SAMPLES = 12
"""Rays to the key light, and to the sky, from every point where the floor's shadow is found."""


@lru_cache(maxsize=1)
def _device() -> EmbreeDevice:
    return EmbreeDevice()


def ray_scene(body: Body) -> EmbreeScene:
    """The body's triangles, ready for ray queries; primitive i is face i."""
    scene = EmbreeScene(_device())
    TriangleMesh(scene, body.vertices, body.faces)
    return scene


@lru_cache(maxsize=8)
def disk_points(count: int) -> np.ndarray:
    """Points [count, 2] spread evenly over the unit disk."""
    k = np.arange(count)
    radius, angle = np.sqrt((k + 0.5) / count), k * np.pi * (3 - 5**0.5)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)


@lru_cache(maxsize=8)
def sphere_points(count: int) -> np.ndarray:
    """Points [count, 3] spread evenly over the unit sphere."""
    k = np.arange(count)
    z, angle = 1 - (2 * k + 1) / count, k * np.pi * (3 - 5**0.5)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt(_dot(vectors, vectors))[..., None]


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", first, second)


def _eighth_power(values: np.ndarray) -> np.ndarray:
    return np.square(np.square(np.square(values)))


def _rays(view: View, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Unit directions [..., 3] through pixel positions (x to the right, y downwards, 0 to `size`)."""
    right, up, forward = view.axes
    scale = np.float32(2 * view.slope / size)
    across = (x - np.float32(size / 2)) * scale
    down = (y - np.float32(size / 2)) * scale
    return _unit(forward + across[..., None] * right - down[..., None] * up)


def _lights(view: View, count: int) -> np.ndarray:
    """Directions [count, 3] to points of the key light."""
    points = disk_points(count) * np.float32(view.spread)
    return _unit(view.light + points @ view.light_axes)


def _clear(rays: EmbreeScene, origins: np.ndarray, directions: np.ndarray, reach: float = 1e9) -> np.ndarray:
    """1 where a ray [N, 3] meets nothing, else 0."""
    origins, directions = np.ascontiguousarray(origins), np.ascontiguousarray(directions)
    limits = np.full(len(origins), reach, np.float32)
    return (rays.run(origins, directions, dists=limits, query="OCCLUDED") < 0).astype(np.float32)


@lru_cache(maxsize=8)
def _smoothing(size: int, step: int) -> np.ndarray:
    """Weights [size, nodes] from nodes every `step` pixels, the first 1.5 steps outside, to pixel centres.

    Linear between nodes that are first blurred so that odd and even ones count alike: they ask different directions.
    """
    nodes = -(-size // step) + 4
    place = (np.arange(size)[:, None] + 0.5) / step + 1.5
    sharp = np.clip(1 - np.abs(place - np.arange(nodes)), 0, None)
    blurred = 0.5 * sharp
    blurred[:, 1:] += 0.25 * sharp[:, :-1]
    blurred[:, :-1] += 0.25 * sharp[:, 1:]
    return blurred.astype(np.float32)


def _ground(view: View, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Floor points [..., 3] seen at pixel positions."""
    directions = _rays(view, x, y, size)
    return view.eye + directions * (-view.eye[2] / np.minimum(directions[..., 2], -1e-3))[..., None]


def _open_share(
    rays: EmbreeScene, points: np.ndarray, fan: np.ndarray, reach: float, inside: np.ndarray
) -> np.ndarray:
    """How much of a fan of directions [4, count, 3] is unblocked, for points [rows, columns, 3] `inside` the mask.

    Neighbouring points take turns with the four sets of directions.
    """
    share = np.ones(points.shape[:2], np.float32)
    row, column = np.nonzero(inside)
    if len(row):
        count = fan.shape[1]
        directions = fan[(row % 2) * 2 + column % 2].reshape(-1, 3)
        origins = np.repeat(points[row, column], count, axis=0)
        share[row, column] = _clear(rays, origins, directions, reach).reshape(-1, count).mean(1)
    return share


def _floor(view: View, body: Body, rays: EmbreeScene, size: int) -> np.ndarray:
    """The empty set with the body's shadow, linear RGB [size, size, 3]."""
    centre = np.arange(size, dtype=np.float32) + np.float32(0.5)
    ground = _ground(view, *np.meshgrid(centre, centre), size)
    x, y = ground[..., 0], ground[..., 1]
    far = np.clip((y - 0.4) / 2.2, 0, 1)
    far = (far * far * (3 - 2 * far))[..., None]
    colour = view.floor * (1 - far) + view.backdrop * far
    colour *= (1.03 - 0.08 * np.clip(x * x + y * y, 0, 1.5))[..., None]

    step = max(2, size // 64)
    weights = _smoothing(size, step)
    node = (np.arange(weights.shape[1], dtype=np.float32) - np.float32(1.5)) * np.float32(step)
    points = _ground(view, *np.meshgrid(node, node), size) + np.array([0, 0, CLEAR], np.float32)
    foot, height = body.vertices[:, :2], body.vertices[:, 2:]
    drop = foot - height * (view.light[:2] / view.light[2])
    blur = 2 * view.spread * float(height.max())
    key_low, key_high = np.minimum(drop, foot).min(0) - blur, np.maximum(drop, foot).max(0) + blur
    sky_low, sky_high = foot.min(0) - REACH / 2, foot.max(0) + REACH / 2
    x, y = points[..., 0], points[..., 1]
    in_key = (x > key_low[0]) & (x < key_high[0]) & (y > key_low[1]) & (y < key_high[1])
    in_sky = (x > sky_low[0]) & (x < sky_high[0]) & (y > sky_low[1]) & (y < sky_high[1])
    key = _open_share(
        rays, points, _lights(view, 4 * FLOOR_SAMPLES).reshape(-1, 4, 3).swapaxes(0, 1), 1e9, in_key
    )
    skyward = _unit(sphere_points(4 * FLOOR_SAMPLES) + np.array([0, 0, 1.001], np.float32))
    sky = _open_share(rays, points, skyward.reshape(-1, 4, 3).swapaxes(0, 1), REACH, in_sky)
    shade = weights @ (0.06 + 0.5 * key + 0.44 * sky) @ weights.T
    return colour * shade[..., None]


def _shade(
    view: View,
    body: Body,
    rays: EmbreeScene,
    hit: dict,
    directions: np.ndarray,
    pattern: np.ndarray,
    count: int,
) -> np.ndarray:
    """Linear RGB [N, 3] where rays hit the body; `pattern` [N] says which of `count` light and sky points to ask."""
    face = hit["primID"]
    corners = body.faces[face]
    u, v = hit["u"][:, None], hit["v"][:, None]
    normals = body.normals
    normal = normals[corners[:, 0]] * (1 - u - v) + normals[corners[:, 1]] * u + normals[corners[:, 2]] * v
    flat = _unit(hit["Ng"])
    flat *= -np.sign(_dot(flat, directions))[:, None]
    normal *= np.where(_dot(normal, flat) < 0, np.float32(-1), np.float32(1))[:, None]
    normal = _unit(normal)
    origins = view.eye + directions * hit["tfar"][:, None] + flat * CLEAR

    towards = _lights(view, count)[pattern]
    facing = _dot(normal, towards)
    lit = np.flatnonzero((facing > 0) & (_dot(flat, towards) > 0))
    key = np.zeros(len(face), np.float32)
    key[lit] = facing[lit] * _clear(rays, origins[lit], towards[lit])
    around = _unit(flat + np.float32(0.999) * sphere_points(count)[pattern])
    blocked = rays.run(origins, around, dists=np.full(len(face), REACH, np.float32), query="DISTANCE") / REACH
    sky = np.float32(0.5) + np.float32(0.5) * blocked

    bounce = np.float32(0.42) * view.floor
    ambient = bounce + (view.sky - bounce) * (np.float32(0.5) + np.float32(0.5) * normal[:, 2:])
    colour = body.albedo[face] * (view.key * key[:, None] + ambient * sky[:, None])

    gloss = body.gloss[face]
    shiny = np.flatnonzero(gloss > 0)
    if len(shiny):
        n, d = normal[shiny], directions[shiny]
        mirror = d - 2 * _dot(n, d)[:, None] * n
        near = _eighth_power(np.clip(_dot(mirror, towards[shiny]), 0, 1))
        rim = np.square(np.square(np.clip(1 + _dot(n, d), 0, 1)))
        highlight = np.where(key[shiny] > 0, 1.6 * _eighth_power(near) + 0.22 * near, 0)
        reflection = (0.05 + 0.5 * rim) * np.clip(0.35 + 0.65 * mirror[:, 2], 0.1, 1) * sky[shiny]
        colour[shiny] += (gloss[shiny] * (highlight + reflection))[:, None]
    return colour


def _things(view: View, body: Body, rays: EmbreeScene, picture: np.ndarray) -> None:
    """Draw the body over the picture, linear RGB [size, size, 3], in place."""
    size = len(picture)
    seen = (body.vertices - view.eye) @ view.axes.T
    half = size / 2
    x = half + seen[:, 0] / seen[:, 2] * half / view.slope
    y = half - seen[:, 1] / seen[:, 2] * half / view.slope
    left, right = int(max(0, x.min())), int(min(size, x.max() + 1))
    above, below = int(max(0, y.min())), int(min(size, y.max() + 1))
    width, height = right - left, below - above
    lattice = np.arange(PIXEL_SAMPLES)
    across = np.tile((lattice + 0.5) / PIXEL_SAMPLES, width) + np.repeat(
        np.arange(left, right), PIXEL_SAMPLES
    )
    down = (lattice * 2 % PIXEL_SAMPLES + 0.5) / PIXEL_SAMPLES
    x = np.broadcast_to(across.astype(np.float32), (height, len(across)))
    y = (np.arange(above, below)[:, None] + np.tile(down, width)).astype(np.float32)
    directions = _rays(view, x, y, size).reshape(-1, 3)
    hit = rays.run(np.broadcast_to(view.eye, directions.shape), directions, output=1)
    found = np.flatnonzero(hit["primID"] >= 0)
    hit = {name: values[found] for name, values in hit.items()}
    pixel, pattern = np.divmod(found, PIXEL_SAMPLES)
    colour = np.minimum(_shade(view, body, rays, hit, directions[found], pattern, PIXEL_SAMPLES), 1)
    count = width * height
    total = np.stack([np.bincount(pixel, colour[:, c], count) for c in range(3)], 1) / PIXEL_SAMPLES
    cover = np.bincount(pixel, minlength=count) / PIXEL_SAMPLES
    window = picture[above:below, left:right]
    window *= 1 - cover.reshape(height, width, 1)
    window += total.reshape(window.shape)


def render(scene: Scene, size: int = 64) -> np.ndarray:
    """The scene's picture, RGB uint8 [size, size, 3].

    Raises ValueError for a size outside 8 to 1,024 pixels, TypeError for one that is no integer.
    """
    size = operator.index(size)
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"picture size is {size}: expected {SMALLEST} to {LARGEST} pixels")
    body = assemble(scene, COARSE if size <= 96 else FINE)
    view = draw_view(scene, body)
    rays = ray_scene(body)
    picture = _floor(view, body, rays, size)
    _things(view, body, rays, picture)
    return np.rint(to_srgb(picture) * 255).astype(np.uint8)
