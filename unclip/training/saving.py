"""What a trained part of unCLIP belongs to, and how both become a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...clip.encoder import ClipEncoder
from ...diffusion.training.clip_conditions import ClipConditions
from ...training.layout import check_layout, layout_of, new_network
from ...weights.load_saved import load_saved
from ...weights.model_folder import find_model, part_folder, read_index, save_into
from ...weights.table import unclip_task

PIPELINE = "UnCLIPPipeline"


def find_unclip(model: str) -> Path:
    """The folder of an unCLIP model. Raises what `find_model` raises, and ValueError for another one."""
    folder = find_model(model, unclip_task(model))
    index = read_index(folder)
    kind = str(index.get("_class_name"))
    if not kind.startswith("UnCLIP"):
        raise ValueError(f"{model} is a {kind} and no unCLIP; give an unCLIP model's folder")
    if "text_proj" in index:
        raise ValueError(
            f"{model} is in diffusers' layout, which training does not go on from; "
            "`maquette.pipeline(...).save_pretrained(folder)` writes it in Maquette's"
        )
    return folder


def check_base(base: str | None, clip: ClipConditions | None = None) -> None:
    """See, before a part is trained, that it can be saved into the unCLIP model `base`, or go on from it.

    clip: the CLIP whose vectors and states condition the part, if any do. Raises what `find_unclip` raises, and
    ValueError for another CLIP's model.
    """
    if not base:
        return
    folder = find_unclip(base)
    if clip is None:
        return
    clip.check_same(base, load_saved(ClipEncoder, part_folder(folder, "clip"), torch.float32))


def start_prior(kind: Any, start: str | None, layout: Mapping[str, Any], clip: ClipConditions) -> Any:
    """A prior of a recipe's layout, or with the weights of the unCLIP model `start`, whose layout it need not say.

    Raises what `find_unclip` raises, and ValueError for another kind of prior or another layout.
    """
    if not start:
        return new_network(kind, layout, **clip.layout(layout.get("text_ctx", 77)))
    check_base(start, clip)
    folder = find_unclip(start)
    place = part_folder(folder, "prior")
    if (found := read_index(folder)["prior"][1]) != kind.__name__:
        raise ValueError(f"start_from: the prior of {start} is a {found}, not a {kind.__name__}")
    trained = load_saved(kind, place, torch.float32)
    had = layout_of(trained)
    check_layout(start, had, {**layout, **clip.layout(had["text_ctx"])})
    return trained


def save_part(
    folder: Path,
    name: str,
    network: nn.Module,
    clip: ClipConditions | None,
    base: str | None,
    settings: Mapping[str, Any],
) -> None:
    """Write the part `name`, with all else that the unCLIP model `base` has, or alone with its CLIP if it has one."""
    beside = clip.parts() if clip else {}
    save_into(base and find_unclip(base), folder, PIPELINE, {name: network}, beside, settings)
