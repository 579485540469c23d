"""Point-E: coloured point clouds, their sampling, surfaces and measures."""

from .classifier import PointNetClassifier
from .mesh import Mesh, surface_mesh
from .points import farthest_points, in_unit_ball, nearest_points, thinned
from .surface import SurfaceModel
from .transformer import PointDiffusionTransformer, PointUpsampler

__all__ = [
    "Mesh",
    "PointDiffusionTransformer",
    "PointNetClassifier",
    "PointUpsampler",
    "SurfaceModel",
    "farthest_points",
    "in_unit_ball",
    "nearest_points",
    "surface_mesh",
    "thinned",
]
