"""How good clouds are: P-FID, P-IS, Chamfer distance, F-score, CLIP R-precision."""

from .cloud_sets import CloudSet, read_clouds
from .evaluate import evaluate_sets
from .measures import chamfer_distance, f_score, frechet_distance, inception_score
from .r_precision import r_precision

__all__ = [
    "CloudSet",
    "chamfer_distance",
    "evaluate_sets",
    "f_score",
    "frechet_distance",
    "inception_score",
    "r_precision",
    "read_clouds",
]
