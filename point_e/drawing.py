"""Clouds and meshes as pictures from all sides, and as a page to turn them around on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .mesh import vertex_colors
from .point_cloud import PointCloud, to_bytes

if TYPE_CHECKING:
    import trimesh

# Of the eye from the origin, and half of what is seen there, in scene units.
DISTANCE, HALF_WINDOW = 3.0, 0.72
ELEVATION = 20.0  # of the eye, in degrees
PAPER = 245
FINER = 2  # pictures are drawn so many times larger, then made smaller: soft edges
MOST_BALLS = 8192  # on a page; of a larger cloud, so many at random
BALL = 0.008  # radius of a page's points, in scene units, for 4,096 of them


def draw_cloud(cloud: PointCloud, azimuth: float = 0.0, size: int = 256) -> Image.Image:
    """A picture [size, size] of a cloud's points as small balls, the nearer in front.

    azimuth: from where it is seen, in degrees; 0 from the front (from -y, z up), 90 from the right.
    """
    side = size * FINER
    x, y, depth = _axes(azimuth) @ cloud.coords.T
    scale = side / 2 / HALF_WINDOW * DISTANCE / (depth + DISTANCE)
    order = np.argsort(-depth)
    column, row = ((side / 2 + sign * place * scale)[order] for sign, place in ((1, x), (-1, y)))
    radius = float(np.clip(0.6 * side / len(cloud) ** 0.5, 1.5, side / 20))
    reach = np.arange(-int(radius), int(radius) + 1)
    across, down = (offset.ravel() for offset in np.meshgrid(reach, reach))
    flat = (across**2 + down**2) / radius**2
    across, down, flat = across[flat < 1], down[flat < 1], flat[flat < 1]
    # One row of pixels for each ball, the farthest ball first: what is written last stays.
    columns = np.round(column).astype(int)[:, None] + across
    rows = np.round(row).astype(int)[:, None] + down
    seen = (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side)
    shades = cloud.colors[order][:, None] * (0.55 + 0.45 * np.sqrt(1 - flat))[:, None]
    picture = np.full((side, side, 3), PAPER, np.uint8)
    picture[rows[seen], columns[seen]] = to_bytes(shades[seen])
    return Image.fromarray(picture).reduce(FINER)


def draw_mesh(mesh: trimesh.Trimesh, azimuth: float = 0.0, size: int = 256) -> Image.Image:
    """A picture [size, size] of a mesh with colours on its vertices, lit from beside the eye; see `draw_cloud`."""
    from ..toybox.rays import Tracer, unit

    side = size * FINER
    right, up, forward = axes = _axes(azimuth).astype(np.float32)
    places = ((np.arange(side) + 0.5) / side * 2 - 1) * HALF_WINDOW / DISTANCE
    across, down = (offset.ravel().astype(np.float32) for offset in np.meshgrid(places, places))
    rays = unit(right[:, None] * across - up[:, None] * down + forward[:, None])
    tracer = Tracer(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32))
    hits = tracer.first_hits(-DISTANCE * forward, rays)
    met = hits["primID"] >= 0
    u, v = hits["u"][met], hits["v"][met]
    weights = np.stack([1 - u - v, u, v])[..., None]
    corners = mesh.faces[hits["primID"][met]].T
    normals = (weights * mesh.vertex_normals[corners]).sum(0)
    colors = (weights * vertex_colors(mesh)[corners][..., :3]).sum(0)
    light = np.array([-0.4, 0.6, -0.7]) @ axes
    shine = (normals @ light) / np.maximum(np.linalg.norm(normals, axis=1), 1e-9)
    picture = np.full((side * side, 3), PAPER, np.uint8)
    picture[met] = np.clip(colors * (0.45 + 0.55 * np.clip(shine, 0, 1))[:, None], 0, 255)
    return Image.fromarray(picture.reshape(side, side, 3)).reduce(FINER)


def turned(
    cloud: PointCloud, mesh: trimesh.Trimesh | None = None, views: int = 24, size: int = 256
) -> list[Image.Image]:
    """Pictures from `views` sides all around, [size, size] each, or with the mesh beside the cloud twice as wide."""
    pictures = []
    for azimuth in np.arange(views) * 360 / views:
        parts = [draw_cloud(cloud, azimuth, size)] + ([draw_mesh(mesh, azimuth, size)] if mesh else [])
        both = Image.new("RGB", (size * len(parts), size))
        for i, part in enumerate(parts):
            both.paste(part, (i * size, 0))
        pictures.append(both)
    return pictures


def page(cloud: PointCloud, mesh: trimesh.Trimesh | None = None) -> str:
    """One HTML page that shows a cloud, and its mesh beside it, to be turned around with the mouse, without network.

    trimesh's viewer (three.js) is in it.
    """
    import trimesh
    from trimesh.viewer.notebook import scene_to_html

    shift = 0.6 if mesh is not None else 0.0
    scene = trimesh.Scene()
    scene.add_geometry(_balls(cloud), transform=trimesh.transformations.translation_matrix([-shift, 0, 0]))
    if mesh is not None:
        colors = vertex_colors(mesh)
        scene.add_geometry(
            _matt(mesh.vertices, mesh.faces, colors),
            transform=trimesh.transformations.translation_matrix([shift, 0, 0]),
        )
    # From the front, a little from above.
    turn = trimesh.transformations.rotation_matrix(np.radians(90 - ELEVATION), [1, 0, 0])
    scene.camera_transform = scene.camera.look_at(scene.bounds, rotation=turn)
    return scene_to_html(scene)


def _balls(cloud: PointCloud) -> trimesh.Trimesh:
    """Each point as a small ball of 20 triangles: a viewer's own points are single pixels."""
    import trimesh

    cloud = cloud.random_sample(MOST_BALLS)
    ball = trimesh.creation.icosahedron()
    vertices = ball.vertices * (BALL * (4096 / len(cloud)) ** 0.5)
    placed = (cloud.coords[:, None] + vertices).reshape(-1, 3)
    faces = (np.arange(len(cloud))[:, None, None] * len(vertices) + ball.faces).reshape(-1, 3)
    return _matt(placed, faces, to_bytes(cloud.colors).repeat(len(vertices), axis=0))


def _matt(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray) -> trimesh.Trimesh:
    """A mesh as the viewer shows it best: its default material is a metal, and its lamp is too bright."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    material = PBRMaterial(baseColorFactor=[145, 145, 145, 255], metallicFactor=0.0, roughnessFactor=1.0)
    looks = TextureVisuals(material=material)
    looks.vertex_attributes["color"] = np.column_stack([colors[:, :3], np.full(len(colors), 255, np.uint8)])
    return trimesh.Trimesh(vertices, faces, visual=looks, process=False)


def _axes(azimuth: float) -> np.ndarray:
    """Right, up and forward of who looks from there, as rows [3, 3]."""
    turn, rise = np.radians(azimuth), np.radians(ELEVATION)
    right = np.array([np.cos(turn), np.sin(turn), 0.0])
    forward = np.array([-np.sin(turn) * np.cos(rise), np.cos(turn) * np.cos(rise), -np.sin(rise)])
    return np.stack([right, np.cross(right, forward), forward])
