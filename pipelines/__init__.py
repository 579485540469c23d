"""What people call: a pipeline for each task, on one base.

Nothing here imports torch before a pipeline is made, so that bad input is answered at once.
"""

import os
from typing import TYPE_CHECKING, Any

from ..weights.table import nearest
from . import point_e_files
from .families import check_family, chosen_family
from .request import PromptWarning

if TYPE_CHECKING:
    from .glide import GlidePipeline
    from .inpaint import GlideInpaintPipeline
    from .point_e import PointEPipeline
    from .unclip import UnCLIPPipeline
    from .variation import UnCLIPVariationPipeline

__all__ = [
    "GlideInpaintPipeline",
    "GlidePipeline",
    "PointEPipeline",
    "PromptWarning",
    "UnCLIPPipeline",
    "UnCLIPVariationPipeline",
    "pipeline",
]

TASKS = (
    "text-to-image",
    "inpainting",
    "image-variation",
    "zero-shot-image-classification",
    *point_e_files.TASKS,
)


def pipeline(
    task: str,
    model: str | os.PathLike = "mini",
    *,
    via: str | None = None,
    dtype: Any = "auto",
    device: Any = "auto",
) -> Any:
    """The pipeline for a task, ready to call.

    task: "text-to-image" (a GlidePipeline or a UnCLIPPipeline), "inpainting" (GlideInpaintPipeline), "image-variation"
    (UnCLIPVariationPipeline), "text-to-3d", "image-to-3d" or "unconditional-3d" (PointEPipeline), or
    "zero-shot-image-classification" (ZeroShotClassifier). model: a known name, or a folder that a pipeline or a
    training wrote; for the last task also everything else that `ClipModel.from_pretrained` takes.
    via: for text-to-image, "glide" or "unclip"; None: what the model is, of mini its GLIDE. For text-to-3d, what draws
    the picture of the words; None: nothing where the model reads words itself, else "glide".
    dtype: a torch dtype, or "auto" for bfloat16 where the machine multiplies it natively and float32 elsewhere.
    device: a torch device, or "auto" for a GPU if there is one.
    Raises ValueError for an unknown task or model, FileNotFoundError for missing files.
    """
    if task == "text-to-image":
        if chosen_family(model, via) == "unclip":
            from .unclip import UnCLIPPipeline as kind
        else:
            from .glide import GlidePipeline as kind
    elif task == "inpainting":
        from .inpaint import GlideInpaintPipeline as kind
    elif task == "image-variation":
        from .variation import UnCLIPVariationPipeline as kind
    elif task in point_e_files.TASKS:
        return _point_e(task, model, via, dtype, device)
    elif task == "zero-shot-image-classification":
        from ..clip import ZeroShotClassifier as kind
    else:
        raise ValueError(f"unknown task {task!r}{nearest(str(task), TASKS)}; known are {', '.join(TASKS)}")
    return kind.from_pretrained(model, dtype=dtype, device=device)


def _point_e(task: str, model: str | os.PathLike, via: str | None, dtype: Any, device: Any) -> Any:
    check_family(via)
    from .point_e import PointEPipeline

    pipe = PointEPipeline.from_pretrained(model, dtype=dtype, device=device)
    if task == "text-to-3d" and pipe.conditioning != "none" and (via or not pipe.config["reads_words"]):
        via = via or "glide"
        painter = pipe.config[f"{via}_model"]
        pipe.painter = pipeline("text-to-image", painter, via=via, dtype=dtype, device=device)
    return pipe


def __getattr__(name: str):
    if name == "GlidePipeline":
        from . import glide as home
    elif name == "GlideInpaintPipeline":
        from . import inpaint as home
    elif name == "PointEPipeline":
        from . import point_e as home
    elif name == "UnCLIPPipeline":
        from . import unclip as home
    elif name == "UnCLIPVariationPipeline":
        from . import variation as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
