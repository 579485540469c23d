"""GLIDE: the conditional U-Net, schedules and samplers, guidance and tokenizers."""

from .denoiser import clip_guided, clipped, from_epsilon, from_x0, guided, keep_known
from .noised_clip import NoisedClip
from .sampling import heun, normal_draws, sample, seeded_generators
from .schedules import betas, make_scheduler, respaced_timesteps
from .tokenizer import GlideTokenizer, train_tokenizer
from .unet import GlideUNet, TextConditioning

__all__ = [
    "GlideTokenizer",
    "GlideUNet",
    "NoisedClip",
    "TextConditioning",
    "betas",
    "clip_guided",
    "clipped",
    "from_epsilon",
    "from_x0",
    "guided",
    "heun",
    "keep_known",
    "make_scheduler",
    "normal_draws",
    "respaced_timesteps",
    "sample",
    "seeded_generators",
    "train_tokenizer",
]
