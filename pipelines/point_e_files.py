"""Point-E's models: which names have one, and the original checkpoints as the parts of a pipeline.

Nothing heavy is imported before a file is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..weights.read_weights import read_weights
from ..weights.table import known_models

# A model is found under the first of these that it has.
TASKS = ("image-to-3d", "text-to-3d", "unconditional-3d")
# What an original checkpoint is, by weights that no other has.
BASE, UPSAMPLER, SURFACE = "Point-E's base network", "Point-E's upsampler", "Point-E's surface model"
MARKS = {
    "encoder_input_proj.weight": SURFACE,
    "cond_point_proj.weight": UPSAMPLER,
    "backbone.resblocks.0.attn.c_qkv.weight": BASE,
}
PUBLISHED = {SURFACE: "sdf.pt", UPSAMPLER: "upsample_40m.pt", BASE: "base_40m.pt, say"}
# How the published networks want to be asked. GLIDE was fine-tuned for them on renders, and never released.
SETTINGS = {
    "glide_model": "glide",
    "unclip_model": "kakaobrain/karlo-v1-alpha",
    "picture_prompt": "a 3D render of {}, on a white background",
    "plain_background": True,
}


def point_e_task(model: str | os.PathLike) -> str:
    """The task under which a model's Point-E is found."""
    return next((task for task in TASKS if os.fspath(model) in known_models(task)), TASKS[0])


def settings(base: Path) -> dict[str, Any]:
    """Of a model of the base network in this file.

    The two that read CLIP's vectors, base_40m_textvec.pt and base_40m_imagevec.pt, differ in nothing but their numbers:
    that one reads words, its name says.
    """
    words = "textvec" in base.stem.lower()
    return {**SETTINGS, "reads_words": words, "reads_pictures": not words}


def original_parts(found: Mapping[str, Path], clip: Path) -> Iterator[tuple[str, Any]]:
    """The parts of a pipeline of original checkpoints, float32, each made when it is asked for."""
    from ..clip import ClipEncoder, ClipTokenizer
    from ..point_e import PointDiffusionTransformer, PointUpsampler, SurfaceModel

    yield "tokenizer", ClipTokenizer.openai()
    yield "clip", ClipEncoder.from_original(read_weights(clip))
    kinds = {BASE: PointDiffusionTransformer, UPSAMPLER: PointUpsampler, SURFACE: SurfaceModel}
    names = {BASE: "base", UPSAMPLER: "upsampler", SURFACE: "surface"}
    for kind, network in kinds.items():
        if kind in found:
            yield names[kind], network.from_original(read_weights(found[kind]))
