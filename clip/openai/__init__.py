"""OpenAI's interface to CLIP."""

from .clip import OpenAIClip, OpenAIPreprocess, available_models, load, tokenize

__all__ = ["OpenAIClip", "OpenAIPreprocess", "available_models", "load", "tokenize"]
