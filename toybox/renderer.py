"""Pictures of scenes: ray casting with a soft key light, sky and floor light, contact shadows and highlights.

Every sample of a pixel looks at another point of the light and of the sky, so that shadows come out soft at
one shadow ray per sample; each pixel uses the same pattern, so that they come out without noise.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .colours import to_srgb
from .rays import CLEAR, REACH, Query, Tracer, cross, disk_points, dot, sphere_points, unit
from .scenes import Scene
from .view import View, draw_view
from .world import Body

SMALLEST, LARGEST = 8, 1024
COARSE, FINE = 24, 48
"""Segments of a full circle in pictures up to 96 px, and in larger ones."""
PIXEL_SAMPLES = 4
"""Rays per pixel, on a lattice: no two share a row or column, so edges get the steps of 4 x 4 samples."""
FLOOR_SAMPLES = 8
"""Rays to the key light, and to the sky, from every point where the floor's shadow is found."""
BAND = 24_000
"""Rays that are cast and shaded at a time, few enough for their arrays to stay in the processor's cache."""


def _rays(view: View, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Unit directions [3, ...] through pixel positions (x to the right, y downwards, 0 to `size`)."""
    scale = np.float32(2 * view.slope / size)
    across, down = (x - np.float32(size / 2)) * scale, (y - np.float32(size / 2)) * scale
    length = 1 / np.sqrt(1 + across * across + down * down)
    right, up, forward = view.axes
    return np.stack([(forward[c] + right[c] * across - up[c] * down) * length for c in range(3)])


def _lights(view: View, count: int) -> np.ndarray:
    """Directions [3, count] to points of the key light."""
    return unit(view.light[:, None] + view.light_axes.T @ disk_points(count) * np.float32(view.spread))


@lru_cache(maxsize=8)
def _smoothing(size: int, step: int) -> np.ndarray:
    """Weights [size, nodes] from nodes every `step` pixels, the first 1.5 steps outside, to pixel centres.

    Linear between nodes that are first blurred so that odd and even ones, which ask different directions,
    count alike.
    """
    nodes = -(-size // step) + 4
    place = (np.arange(size)[:, None] + 0.5) / step + 1.5
    sharp = np.clip(1 - np.abs(place - np.arange(nodes)), 0, None)
    blurred = 0.5 * sharp
    blurred[:, 1:] += 0.25 * sharp[:, :-1]
    blurred[:, :-1] += 0.25 * sharp[:, 1:]
    return blurred.astype(np.float32)


def _ground(view: View, positions: np.ndarray, size: int) -> np.ndarray:
    """Floor points [3, P, P] seen at pixel positions [P] across and down."""
    directions = _rays(view, positions[None, :], positions[:, None], size)
    return view.eye[:, None, None] + directions * (
        -view.eye[2] / np.minimum(directions[2], np.float32(-1e-3))
    )


def _open_share(query: Query, points: np.ndarray, fan: np.ndarray, within: tuple) -> np.ndarray:
    """The mean of a ray query over a fan of directions [3, count, 4] from floor points [3, rows, columns].

    Neighbouring points take turns with the four sets of directions. Points outside `within`, the least and the
    greatest (x, y), are taken to be in the open: 1.
    """
    (x0, y0), (x1, y1) = within
    x, y = points[0], points[1]
    row, column = np.nonzero((x > x0) & (x < x1) & (y > y0) & (y < y1))
    share = np.ones(x.shape, np.float32)
    if len(row):
        directions = np.take(fan, (row % 2) * 2 + column % 2, axis=2)
        origins = np.broadcast_to(points[:, row, column][:, None], directions.shape)
        answers = query(origins.reshape(3, -1), directions.reshape(3, -1))
        share[row, column] = answers.reshape(fan.shape[1], -1).mean(0)
    return share


def _floor(view: View, body: Body, rays: Tracer, size: int) -> np.ndarray:
    """The empty set with the body's shadow, linear RGB [3, size, size]."""
    ground = _ground(view, np.arange(size, dtype=np.float32) + np.float32(0.5), size)
    x, y = ground[0], ground[1]
    far = np.clip((y - np.float32(0.4)) * np.float32(1 / 2.2), 0, 1)
    far = far * far * (3 - 2 * far)
    colour = view.floor[:, None, None] + (view.backdrop - view.floor)[:, None, None] * far

    step = max(2, size // 64)
    weights = _smoothing(size, step)
    points = _ground(view, (np.arange(weights.shape[1], dtype=np.float32) - np.float32(1.5)) * step, size)
    points[2] = CLEAR
    foot, height = body.vertices[:, :2], body.vertices[:, 2:]
    drop = foot - height * (view.light[:2] / view.light[2])
    blur = 2 * view.spread * float(height.max())
    low, high = foot.min(0), foot.max(0)
    shadow = (np.minimum(drop.min(0), low) - blur, np.maximum(drop.max(0), high) + blur)
    key = _open_share(rays.unblocked, points, _lights(view, 4 * FLOOR_SAMPLES).reshape(3, -1, 4), shadow)
    skyward = unit(sphere_points(4 * FLOOR_SAMPLES) + np.array([[0], [0], [1.001]], np.float32))
    near = (low - REACH / 2, high + REACH / 2)
    sky = _open_share(rays.clearance, points, skyward.reshape(3, -1, 4), near)
    shade = weights @ (0.06 + 0.5 * key + 0.44 * sky) @ weights.T
    return colour * (shade * (np.float32(1.03) - np.float32(0.08) * np.clip(x * x + y * y, 0, 1.5)))


@dataclass(frozen=True)
class _Surface:
    """What shading looks up by face, component first: unit normals at the corners and of the face, and paint."""

    corners: tuple[np.ndarray, ...]
    flat: np.ndarray
    albedo: np.ndarray
    gloss: np.ndarray


def _surface(body: Body) -> _Surface:
    a, b, c = (np.take(body.vertices, body.faces[:, corner], axis=0).T for corner in range(3))
    flat = cross(b - a, c - a)
    flat /= np.maximum(np.sqrt(dot(flat, flat)), np.float32(1e-12))
    normals = unit(body.normals.T)
    corners = tuple(np.take(normals, body.faces[:, corner], axis=1) for corner in range(3))
    flat *= np.where(dot(flat, corners[0] + corners[1] + corners[2]) < 0, np.float32(-1), np.float32(1))
    return _Surface(corners, flat, np.ascontiguousarray(body.albedo.T), body.gloss)


def _shade(
    view: View, surface: _Surface, rays: Tracer, hit: dict, directions: np.ndarray, pattern: np.ndarray
) -> np.ndarray:
    """Linear RGB [3, N] where rays hit; `pattern` [N] says which points of the light and the sky each asks."""
    face, u, v = hit["primID"], hit["u"], hit["v"]
    flat = np.take(surface.flat, face, axis=1)
    side = -np.sign(dot(flat, directions))
    flat *= side
    first, second, third = (np.take(corner, face, axis=1) for corner in surface.corners)
    normal = unit(first * ((1 - u - v) * side) + second * (u * side) + third * (v * side))
    origins = view.eye[:, None] + directions * hit["tfar"] + flat * CLEAR

    towards = np.take(_lights(view, PIXEL_SAMPLES), pattern, axis=1)
    key = dot(normal, towards)
    lit = np.flatnonzero((key > 0) & (dot(flat, towards) > 0))
    open_light = np.zeros(len(face), np.float32)
    open_light[lit] = rays.unblocked(np.take(origins, lit, axis=1), np.take(towards, lit, axis=1))
    key *= open_light
    around = unit(flat + np.take(sphere_points(PIXEL_SAMPLES), pattern, axis=1) * np.float32(0.999))
    sky = np.float32(0.5) + np.float32(0.5) * (rays.clearance(origins, around))

    bounce = (np.float32(0.5) * view.floor)[:, None]
    ambient = bounce + (view.sky[:, None] - bounce) * (np.float32(0.5) + np.float32(0.5) * normal[2])
    colour = np.take(surface.albedo, face, axis=1) * (view.key[:, None] * key + ambient * sky)
    gloss = np.take(surface.gloss, face)
    shiny = np.flatnonzero(gloss)
    if len(shiny):
        n, d, light = (np.take(vectors, shiny, axis=1) for vectors in (normal, directions, towards))
        colour[:, shiny] += gloss[shiny] * _reflection(n, d, light, open_light[shiny], sky[shiny])
    return np.minimum(colour, 1)


def _reflection(
    normal: np.ndarray, direction: np.ndarray, light: np.ndarray, open_light: np.ndarray, sky: np.ndarray
) -> np.ndarray:
    """White light [N] that glossy paint mirrors: the key light's highlight, and the sky, most at grazing angles."""
    facing = dot(normal, direction)
    mirror = direction - 2 * facing * normal
    broad = np.clip(dot(mirror, light), 0, 1)
    for _ in range(3):
        broad = broad * broad
    sharp = broad
    for _ in range(3):
        sharp = sharp * sharp
    highlight = (np.float32(1.6) * sharp + np.float32(0.22) * broad) * open_light
    rim = np.clip(1 + facing, 0, 1)
    rim = rim * rim
    above = np.clip(np.float32(0.35) + np.float32(0.65) * mirror[2], np.float32(0.1), 1)
    return highlight + (np.float32(0.05) + np.float32(0.5) * rim * rim) * above * sky


def _things(view: View, body: Body, rays: Tracer, picture: np.ndarray) -> None:
    """Draw the body over the picture, linear RGB [3, size, size], in place."""
    size = picture.shape[1]
    seen = view.axes @ (body.vertices - view.eye).T
    x, y = (size / 2) * (1 + np.stack([seen[0], -seen[1]]) / (seen[2] * view.slope))
    left, right = int(max(0, x.min())), int(min(size, x.max() + 1))
    above, below = int(max(0, y.min())), int(min(size, y.max() + 1))
    surface = _surface(body)
    width = right - left
    lattice = np.arange(PIXEL_SAMPLES)
    across = np.repeat(np.arange(left, right), PIXEL_SAMPLES) + np.tile(
        (lattice + 0.5) / PIXEL_SAMPLES, width
    )
    down = np.tile(((2 * lattice + 1) % (PIXEL_SAMPLES + 1) + 0.5) / PIXEL_SAMPLES, width).astype(np.float32)
    across = across.astype(np.float32)
    rows = max(1, BAND // len(across))
    for top in range(above, below, rows):
        height = min(rows, below - top)
        y = np.arange(top, top + height, dtype=np.float32)[:, None] + down
        directions = _rays(view, across, y, size).reshape(3, -1)
        hit = rays.first_hits(view.eye, directions)
        found = np.flatnonzero(hit["primID"] >= 0)
        if not len(found):
            continue
        hit = {name: np.take(hit[name], found) for name in ("primID", "tfar", "u", "v")}
        pixel, pattern = np.divmod(found, PIXEL_SAMPLES)
        colour = _shade(view, surface, rays, hit, np.take(directions, found, axis=1), pattern)
        count = width * height
        cover = np.bincount(pixel, minlength=count).reshape(height, width) / PIXEL_SAMPLES
        window = picture[:, top : top + height, left:right]
        window *= 1 - cover
        for channel in range(3):
            total = np.bincount(pixel, colour[channel], count).reshape(height, width)
            window[channel] += total / PIXEL_SAMPLES


def render(scene: Scene, size: int = 64) -> np.ndarray:
    """The scene's picture, RGB uint8 [size, size, 3].

    Raises ValueError for a size outside 8 to 1,024 pixels, TypeError for one that is no integer.
    """
    size = checked_size(size)
    body = scene.body(COARSE if size <= 96 else FINE)
    return render_body(body, draw_view(scene.generator("view"), body, scene.relation), size)


def checked_size(size: int) -> int:
    """A picture's side that can be drawn; raises what `render` raises for others."""
    size = operator.index(size)
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"picture size is {size}: expected {SMALLEST} to {LARGEST} pixels")
    return size


def render_body(body: Body, view: View, size: int) -> np.ndarray:
    """The picture of a body that stands on the floor, RGB uint8 [size, size, 3]."""
    rays = Tracer(body.vertices, body.faces)
    picture = _floor(view, body, rays, size)
    _things(view, body, rays, picture)
    return np.rint(to_srgb(picture.transpose(1, 2, 0)) * 255).astype(np.uint8)
