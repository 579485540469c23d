"""Point-E: coloured point clouds, their sampling, surfaces and measures."""

from .classifier import PointNetClassifier
from .mesh import Mesh, surface_mesh
from .points import farthest_points, in_unit_ball, nearest_points, thinned
from .sampling import BASE, UPSAMPLE, Stage, as_clouds, sample_points
from .surface import SurfaceModel
from .transformer import PointDiffusionTransformer, PointUpsampler

__all__ = [
    "BASE",
    "UPSAMPLE",
    "Mesh",
    "PointDiffusionTransformer",
    "PointNetClassifier",
    "PointUpsampler",
    "Stage",
    "SurfaceModel",
    "as_clouds",
    "farthest_points",
    "in_unit_ball",
    "nearest_points",
    "sample_points",
    "surface_mesh",
    "thinned",
]
