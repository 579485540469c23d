"""What a training of GLIDE goes on from: a network of a model folder, perhaps to learn inpainting, and its texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...clip.encoder import ClipEncoder
from ...clip.tokenizer import ClipTokenizer
from ...training.layout import check_layout, layout_of
from ...weights.load_saved import load_saved
from ...weights.model_folder import find_model, has_part, load_part, part_folder, read_index
from ..glide import GlideUNet
from ..text_reader import TextReader
from ..tokenizer import GlideTokenizer

TASK = "text-to-image"
# What a recipe may say otherwise than the network that it goes on from.
FREE = ("image_size", "dropout", "inpaint")
NOT_SEEN = 3  # channels of the input that come before those of the picture to inpaint
TOKENIZERS = {"GlideTokenizer": GlideTokenizer, "ClipTokenizer": ClipTokenizer}


def reader_of(model: str) -> TextReader:
    """What reads the texts of a model's networks."""
    folder = find_model(model, TASK)
    index = read_index(folder)
    tokenizer = load_part(TOKENIZERS[index["tokenizer"][1]], part_folder(folder, "tokenizer"), None)
    if not has_part(index, "text_encoder"):
        return TextReader(tokenizer)
    return TextReader(tokenizer, load_saved(ClipEncoder, part_folder(folder, "text_encoder"), torch.float32))


def started(model: str, part: str, layout: Mapping[str, Any], reading: Mapping[str, Any]) -> GlideUNet:
    """The network `part` of a model, float32, in the layout of a recipe, which need only say what is to be otherwise.

    If it is to inpaint and could not, its input's new channels count nothing, so that it computes what it did.
    reading: what the texts' reader settles of the layout. Raises ValueError for what cannot be otherwise.
    """
    start = load_saved(GlideUNet, part_folder(find_model(model, TASK), part), torch.float32)
    had = layout_of(start)
    upsamples = {False: "a base network", True: "an upsampler"}
    if had["super_res"] != (part == "upsampler"):
        wanted, found = upsamples[not had["super_res"]], upsamples[had["super_res"]]
        raise ValueError(f"start_from: the {part} of {model} is {found}; give a model where it is {wanted}")
    check_layout(model, had, layout, FREE)
    if any(had[key] != value for key, value in {"text_width": None, **reading}.items()):
        raise ValueError(f"start_from: {model} reads texts in another way than base; drop one of the two")
    if had["inpaint"] and not layout.get("inpaint", True):
        raise ValueError(f"start_from: {model} inpaints and goes on doing so; drop inpaint: under model:")
    network = GlideUNet(**{**had, **layout})
    weights = start.state_dict()
    if network.config["inpaint"] and not had["inpaint"]:
        weights["input_blocks.0.0.weight"] = _widened(weights["input_blocks.0.0.weight"], had["patch_size"])
    network.load_state_dict(weights)
    return network


def check_sides(model: str, part: str, side: int) -> None:
    """Raises ValueError if pictures of `side` px, which `part` is to make, do not go with a model's other network."""
    folder, other = find_model(model, TASK), {"unet": "upsampler", "upsampler": "unet"}[part]
    if not has_part(read_index(folder), other):
        return
    network: Any = GlideUNet.load_config(part_folder(folder, other), local_files_only=True)
    theirs = network["image_size"]
    base, enlarged = (side, theirs) if part == "unet" else (theirs, side)
    if enlarged % base:
        raise ValueError(
            f"image_size is {side}, but the {other} of {model} makes {theirs} px, and the upsampler's must be a "
            "multiple of the base's; give one that goes with it, or a model that has none"
        )


def _widened(weight: Tensor, patch_size: int) -> Tensor:
    """The first convolution's weight with zeros for the picture to inpaint and its mask."""
    per_channel = patch_size**2
    before, after = weight.tensor_split([NOT_SEEN * per_channel], dim=1)
    return torch.cat(
        [before, before.new_zeros(len(before), 4 * per_channel, *before.shape[2:]), after], dim=1
    )
