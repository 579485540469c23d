"""What people call: a pipeline for each task, on one base.

Nothing here imports torch before a pipeline is made, so that bad input is answered at once.
"""

import os
from typing import TYPE_CHECKING, Any

from ..weights.table import nearest
from .request import PromptWarning

if TYPE_CHECKING:
    from .glide import GlidePipeline
    from .inpaint import GlideInpaintPipeline

__all__ = ["GlideInpaintPipeline", "GlidePipeline", "PromptWarning", "pipeline"]

TASKS = ("text-to-image", "inpainting", "zero-shot-image-classification")


def pipeline(
    task: str, model: str | os.PathLike = "mini", *, dtype: Any = "auto", device: Any = "auto"
) -> Any:
    """The pipeline for a task, ready to call: a GlidePipeline, a GlideInpaintPipeline or a ZeroShotClassifier.

    task: "text-to-image", "inpainting" or "zero-shot-image-classification". model: a known name, or a folder that a
    pipeline or a training wrote; for the last task also everything else that `ClipModel.from_pretrained` takes.
    dtype: a torch dtype, or "auto" for bfloat16 where the machine multiplies it natively and float32 elsewhere.
    device: a torch device, or "auto" for a GPU if there is one.
    Raises ValueError for an unknown task or model, FileNotFoundError for missing files.
    """
    if task == "text-to-image":
        from .glide import GlidePipeline

        return GlidePipeline.from_pretrained(model, dtype=dtype, device=device)
    if task == "inpainting":
        from .inpaint import GlideInpaintPipeline

        return GlideInpaintPipeline.from_pretrained(model, dtype=dtype, device=device)
    if task == "zero-shot-image-classification":
        from ..clip import ZeroShotClassifier

        return ZeroShotClassifier.from_pretrained(model, dtype=dtype, device=device)
    raise ValueError(f"unknown task {task!r}{nearest(str(task), TASKS)}; known are {', '.join(TASKS)}")


def __getattr__(name: str):
    if name == "GlidePipeline":
        from .glide import GlidePipeline

        return GlidePipeline
    if name == "GlideInpaintPipeline":
        from .inpaint import GlideInpaintPipeline

        return GlideInpaintPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
