"""OpenAI's interface to CLIP: a package that stands in for theirs, with their modules under their names.

`sys.modules["clip"] = maquette.clip.openai` in a program's own start-up serves code that imports `clip`, `clip.clip`,
`clip.model` and `clip.simple_tokenizer`, unchanged.
"""

from . import clip, model, simple_tokenizer
from .loading import available_models, load, tokenize

__all__ = ["available_models", "clip", "load", "model", "simple_tokenizer", "tokenize"]
