"""Karlo's checkpoints: diffusers' folders of them, and the original files, as the parts of a pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..weights.read_weights import read_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# What an original checkpoint is, by a weight that no other has.
PRIOR, STATISTICS, DECODER, UPSAMPLER, CLIP = (
    "Karlo's prior", "Karlo's statistics", "Karlo's decoder", "Karlo's upsampler", "a CLIP",
)  # fmt: skip
MARKS = {
    "model.prd_emb": PRIOR,
    "model.cf_param": DECODER,
    "model_first_steps.input_blocks.0.0.weight": UPSAMPLER,
    "text_projection": CLIP,
}
PUBLISHED = {
    PRIOR: "prior-ckpt-step=01000000-of-01000000.ckpt",
    STATISTICS: "ViT-L-14_stats.th",
    DECODER: "decoder-ckpt-step=01000000-of-01000000.ckpt",
    UPSAMPLER: "improved-sr-ckpt-step=1.2M.ckpt",
    CLIP: "ViT-L-14.pt",
}
# The folders in diffusers' layout of which each part of a pipeline is made.
FOLDERS = {
    "prior": ("prior",),
    "decoder": ("decoder", "text_proj"),
    "upsampler": ("super_res_first", "super_res_last"),
    "clip": ("text_encoder",),
    "tokenizer": ("tokenizer",),
}
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
)


def is_diffusers_layout(index: Mapping[str, Any]) -> bool:
    """Whether a model_index.json is that of diffusers' unCLIP."""
    return "text_proj" in index


def load_diffusers_layout(
    folder: Path, parts: Collection[str], dtype: torch.dtype, reads_pictures: bool
) -> dict[str, Any]:
    """Those parts of a pipeline in `dtype`, of a folder such as kakaobrain/karlo-v1-alpha on the Hub.

    reads_pictures: whether the CLIP needs its image encoder. Raises FileNotFoundError that names what is missing, and
    ValueError for weights that do not fit.
    """
    needed = [name for part in parts for name in FOLDERS.get(part, ())] + ["image_encoder"] * reads_pictures
    if missing := [name for name in needed if not (folder / name).is_dir()]:
        raise FileNotFoundError(
            f"{folder} has no {' and no '.join(missing)}; expected {', '.join(needed)}, as in "
            f"kakaobrain/karlo-v1-alpha{'-image-variations' * reads_pictures}"
        )
    loaders: dict[str, Callable[[], Any]] = {
        "prior": lambda: _prior(folder),
        "decoder": lambda: _decoder(folder),
        "upsampler": lambda: _upsampler(folder),
        "clip": lambda: _clip(folder, reads_pictures),
    }
    from torch.nn import Module

    from ..clip.transformers_names import tokenizer_of_folder

    # As any module: diffusers' own `to` warns of layers that these networks have not.
    made = {part: Module.to(load(), dtype) for part, load in loaders.items() if part in parts}

    return {**made, "tokenizer": tokenizer_of_folder(folder / "tokenizer")}


def original_parts(found: Mapping[str, Path]) -> Iterator[tuple[str, Any]]:
    """The parts of a model folder of original checkpoints, each made when it is asked for."""
    from ..clip import ClipEncoder, ClipTokenizer
    from ..unclip import DiffusionPrior, UnCLIPDecoder, UnCLIPUpsampler

    yield "tokenizer", ClipTokenizer.openai()
    clip = ClipEncoder.from_original(read_weights(found[CLIP]))
    length = clip.config["context_length"]
    yield "clip", clip
    if PRIOR in found:
        mean, std = read_weights(found[STATISTICS]).values()
        weights = {**read_weights(found[PRIOR]), "clip_mean": mean, "clip_std": std}
        yield "prior", DiffusionPrior.from_original(weights)
    yield "decoder", UnCLIPDecoder.from_original(read_weights(found[DECODER]), {"text_ctx": length})
    if UPSAMPLER in found:
        yield "upsampler", UnCLIPUpsampler.from_original(read_weights(found[UPSAMPLER]))


def _prior(folder: Path) -> Any:
    from ..unclip import DiffusionPrior
    from ..unclip.diffusers_names import prior_weights

    weights, config = _read(folder / "prior")
    heads = config["num_attention_heads"]
    if missing := [name for name in ("clip_mean", "clip_std") if name not in weights]:
        raise ValueError(f"{folder / 'prior'} has no {missing[0]}; the prior's statistics belong to it")
    return DiffusionPrior.from_original(prior_weights(weights, heads), {"xf_heads": heads})


def _decoder(folder: Path) -> Any:
    from ..unclip import UnCLIPDecoder
    from ..unclip.diffusers_names import decoder_weights

    (weights, config), (projections, _) = _read(folder / "decoder"), _read(folder / "text_proj")
    head_channels, length = config["attention_head_dim"], _text_length(folder)
    told = {"image_size": config["sample_size"], "num_head_channels": head_channels, "text_ctx": length}
    return UnCLIPDecoder.from_original(decoder_weights(weights, projections, head_channels), told)


def _upsampler(folder: Path) -> Any:
    from ..unclip import UnCLIPUpsampler
    from ..unclip.diffusers_names import upsampler_weights

    (first, config), (last, _) = _read(folder / "super_res_first"), _read(folder / "super_res_last")
    return UnCLIPUpsampler.from_original(upsampler_weights(first, last), {"size": config["sample_size"]})


def _clip(folder: Path, reads_pictures: bool) -> Any:
    from ..clip.transformers_names import clip_of_towers

    image = _read(folder / "image_encoder") if reads_pictures else None
    return clip_of_towers(_read(folder / "text_encoder"), image)


def _text_length(folder: Path) -> int:
    config = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    return config.get("max_position_embeddings", 77)


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a part, and its config."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), folder / WEIGHTS[0])
    return read_weights(path), config
