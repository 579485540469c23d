"""What people call: pipelines for tasks, and the weights that model names stand for.

Nothing here imports torch before a pipeline is made, so that bad input is answered at once.
"""

from typing import TYPE_CHECKING

from ..weights import known_models
from .models import find_model, pipeline
from .request import PromptWarning

if TYPE_CHECKING:
    from .glide import GlidePipeline

__all__ = ["GlidePipeline", "PromptWarning", "find_model", "known_models", "pipeline"]


def __getattr__(name: str):
    if name == "GlidePipeline":
        from .glide import GlidePipeline

        return GlidePipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
