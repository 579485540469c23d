"""GLIDE: the conditional U-Net, schedules and samplers, guidance and tokenizers."""

from .unet import GlideUNet, TextConditioning

__all__ = ["GlideUNet", "TextConditioning"]
