"""GLIDE: the conditional U-Net, schedules and samplers, guidance and tokenizers."""

from .denoiser import clip_guided, clipped, from_epsilon, from_x0, guided, keep_known
from .glide import GlideUNet
from .noised_clip import NoisedClip
from .sampling import heun, normal_draws, sample, seeded_generators
from .schedules import betas, make_scheduler, respaced_timesteps
from .tokenizer import GlideTokenizer, train_tokenizer
from .unet import Conditioning, UNet

__all__ = [
    "Conditioning",
    "GlideTokenizer",
    "GlideUNet",
    "NoisedClip",
    "UNet",
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
