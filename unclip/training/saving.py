"""How a trained part of unCLIP becomes a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...diffusion.training.clip_conditions import ClipConditions
from ...weights.model_folder import extend_model_folder, find_model, write_model_folder

PIPELINE, TASK = "UnCLIPPipeline", "text-to-image"


def check_base(base: str | None) -> None:
    """Raises ValueError or FileNotFoundError if the model `base` to save into cannot be found: before it is trained."""
    if base:
        find_model(base, TASK)


def save_part(
    folder: Path,
    name: str,
    network: nn.Module,
    clip: ClipConditions,
    base: str | None,
    settings: Mapping[str, Any],
) -> None:
    """Write the part `name`, with all else that the unCLIP model `base` has, or alone with its CLIP."""
    if base:
        extend_model_folder(find_model(base, TASK), folder, {name: network}, settings)
    else:
        write_model_folder(folder, PIPELINE, {name: network, **clip.parts()}, settings)
