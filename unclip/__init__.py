"""unCLIP: the prior from a caption to an image embedding, the decoder to a picture, and its upsampler."""

from .decoder import UnCLIPDecoder
from .prior import DiffusionPrior
from .upsampler import UnCLIPUpsampler

__all__ = ["DiffusionPrior", "UnCLIPDecoder", "UnCLIPUpsampler"]
