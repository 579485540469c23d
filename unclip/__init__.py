"""unCLIP: priors from a caption to an image embedding, the decoder to a picture, and two upsamplers."""

from .autoregressive_prior import AutoregressivePrior
from .decoder import UnCLIPDecoder
from .denoisers import decoder_denoiser, prior_denoiser, upsampler_denoiser
from .latents import ddim_inversion, in_dimensions, principal_axes, slerp, towards
from .prior import DiffusionPrior
from .text_conditions import TextConditions, read_texts
from .upsampler import UnCLIPUpsampler

__all__ = [
    "AutoregressivePrior",
    "DiffusionPrior",
    "TextConditions",
    "UnCLIPDecoder",
    "UnCLIPUpsampler",
    "ddim_inversion",
    "decoder_denoiser",
    "in_dimensions",
    "principal_axes",
    "prior_denoiser",
    "read_texts",
    "slerp",
    "towards",
    "upsampler_denoiser",
]
