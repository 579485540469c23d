"""What people call: a pipeline for each task, on one base.

Nothing here imports torch before a pipeline is made, so that bad input is answered at once.
"""

from typing import TYPE_CHECKING

from .request import PromptWarning
from .tasks import pipeline

if TYPE_CHECKING:
    from .glide import GlidePipeline

__all__ = ["GlidePipeline", "PromptWarning", "pipeline"]


def __getattr__(name: str):
    if name == "GlidePipeline":
        from .glide import GlidePipeline

        return GlidePipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
