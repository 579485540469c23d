"""What every stage samples with (denoisers, schedules, loops, guidance), the ADM U-Net, and GLIDE."""

from .clip_gradient import clip_gradient, noised_clip_gradient
from .denoiser import (
    clip_guided,
    clipped,
    dynamically_clipped,
    from_epsilon,
    from_x0,
    guided,
    keep_known,
    scale_between,
    tiled,
    x0_guided,
)
from .glide import GlideUNet
from .noised_clip import NoisedClip
from .sampling import heun, multistep, normal_draws, sample, seeded_generators
from .schedules import betas, make_scheduler, respaced_timesteps
from .tokenizer import GlideTokenizer
from .unet import Conditioning, UNet

__all__ = [
    "Conditioning",
    "GlideTokenizer",
    "GlideUNet",
    "NoisedClip",
    "UNet",
    "betas",
    "clip_gradient",
    "clip_guided",
    "clipped",
    "dynamically_clipped",
    "from_epsilon",
    "from_x0",
    "guided",
    "heun",
    "keep_known",
    "make_scheduler",
    "multistep",
    "noised_clip_gradient",
    "normal_draws",
    "respaced_timesteps",
    "sample",
    "scale_between",
    "seeded_generators",
    "tiled",
    "x0_guided",
]
