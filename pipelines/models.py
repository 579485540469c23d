"""Task and model names -> pipelines and folders of weights; the table of names is weights/models.json."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..weights import bundled_folder, known_models
from ..weights.table import nearest

TASKS = ("text-to-image", "zero-shot-image-classification")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def pipeline(task: str, model: str | os.PathLike = "mini", *, dtype: Any = "auto", device: Any = "auto"):
    """The pipeline for a task, ready to call: a GlidePipeline or a ZeroShotClassifier.

    task: "text-to-image" or "zero-shot-image-classification". model: a known name, or a folder that a pipeline or a
    training wrote; for the second task also everything else that `ClipModel.from_pretrained` takes.
    dtype: a torch dtype, or "auto" for bfloat16 where the machine multiplies it natively and float32 elsewhere.
    device: a torch device, or "auto" for a GPU if there is one.
    Raises ValueError for an unknown task or model or damaged weights, FileNotFoundError for missing files.
    """
    check_task(task)
    if task == "zero-shot-image-classification":
        from ..clip import ZeroShotClassifier

        return ZeroShotClassifier.from_pretrained(model, dtype=dtype, device=device)
    folder = find_model(task, model)
    from .glide import GlidePipeline

    return GlidePipeline.from_pretrained(folder, dtype=dtype, device=device)


def check_task(task: str) -> None:
    """Raises ValueError that names the known tasks."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}{nearest(str(task), TASKS)}; known are {', '.join(TASKS)}")


def find_model(task: str, model: str | os.PathLike = "mini") -> Path:
    """The folder of a model's weights for a task, with all its files there and whole.

    Raises ValueError for an unknown task or model or a damaged file, FileNotFoundError for a missing one.
    """
    check_task(task)
    models, name = known_models(task), os.fspath(model)
    if name in models:
        folder = bundled_folder(name, task)
    elif os.path.isdir(name):
        folder = Path(name)
    elif os.sep in name:
        raise FileNotFoundError(
            f"there is no model folder {name}; give the folder that holds its config.json"
        )
    else:
        raise ValueError(
            f"unknown model {name!r}{nearest(name, models)}; known are {', '.join(models)}, "
            "or give the path of a model's folder"
        )
    check_folder(folder)
    return folder


def part(folder: Path, name: str) -> Path:
    """Where a part of a pipeline lies: in a folder of its name, or, as training writes it, in `folder` itself."""
    return folder / name if (folder / name).is_dir() else folder


def check_folder(folder: Path) -> None:
    """Look at every file of a model without loading it.

    Raises FileNotFoundError for a missing file and ValueError for a damaged one; both name it.
    """
    unet, tokenizer = part(folder, "unet"), part(folder, "tokenizer")
    read_json(unet / "config.json")
    read_json(tokenizer / "tokenizer.json")
    if (folder / "model_index.json").exists():
        read_json(folder / "model_index.json")
    weights = unet / WEIGHTS
    _check_exists(weights)
    try:
        with safe_open(weights, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{weights} is damaged or not whole ({error}); fetch or copy it again") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises FileNotFoundError or ValueError naming the file."""
    _check_exists(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged or not whole ({error}); fetch or copy it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not what belongs there: it holds no JSON object; fetch or copy it again")
    return content


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"the model folder is not whole: {path} is missing; fetch or copy it again")
