"""GLIDE: the conditional U-Net, schedules and samplers, guidance and tokenizers."""

from .guidance import guided
from .noised_clip import NoisedClip
from .sampling import normal_draws, sample, seeded_generators
from .schedules import betas, make_scheduler, respaced_timesteps
from .tokenizer import GlideTokenizer, train_tokenizer
from .unet import GlideUNet, TextConditioning

__all__ = [
    "GlideTokenizer",
    "GlideUNet",
    "NoisedClip",
    "TextConditioning",
    "betas",
    "guided",
    "make_scheduler",
    "normal_draws",
    "respaced_timesteps",
    "sample",
    "seeded_generators",
    "train_tokenizer",
]
