"""A CLIP of transformers' classes, text and image encoder in folders of their own, as a `ClipEncoder`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..weights import read_weights
from .encoder import ClipEncoder
from .tokenizer import ClipTokenizer

NAMES = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding": "conv1",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PROJECTIONS = {"text_projection.weight": "text_projection", "visual_projection.weight": "proj"}


def clip_of_towers(
    text: tuple[Mapping[str, Tensor], Mapping[str, Any]],
    image: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None,
) -> ClipEncoder:
    """The encoder of a CLIPTextModelWithProjection and, if there is one, a CLIPVisionModelWithProjection.

    text, image: the weights of each and its config. Without the image encoder it reads texts only. Raises ValueError
    naming up to five weights that do not fit.
    """
    weights, said = text
    named, config = {**_named(weights), "logit_scale": torch.tensor(math.log(100))}, _config(said)
    if image is not None:
        weights, vision = image
        named |= {f"visual.{key}": value for key, value in _named(weights).items()}
        config = _config(said, vision)
    return ClipEncoder.from_original(named, config)


def clip_of_folder(folder: Path) -> ClipEncoder:
    """The encoder of a whole CLIPModel of transformers' kind: its config, one file of weights, its processor's config.

    Raises ValueError for another kind of model, or one or pictures that `ClipEncoder` would compute otherwise, and
    FileNotFoundError if there are no weights.
    """
    said = read_config(str(folder), folder / CONFIG)
    found = [path for name in WEIGHTS if (path := folder / name).is_file()]
    if not found and list(folder.glob("*.index.json")):
        raise ValueError(f"the weights in {folder} lie in several files; save them again in one")
    weights = read_weights(found[0] if found else folder / WEIGHTS[0])
    text = {key: value for key, value in weights.items() if key.startswith("text_")}
    image = {key: value for key, value in weights.items() if key.startswith("vis")}
    named = {**_named(text), **{f"visual.{key}": value for key, value in _named(image).items()}}
    named |= {key: value for key, value in weights.items() if key not in text and key not in image}
    # Old files say only what differs from the published ViT-B/32, and some say nothing of it but beside.
    vision = {"hidden_size": 768, "num_attention_heads": 12, "image_size": 224, **said["vision_config"]}
    config = _config({"num_attention_heads": 8, **said["text_config"]}, vision)
    return ClipEncoder.from_original(named, {**config, **_pictures(folder, vision["image_size"])})


def _config(text: Mapping[str, Any], vision: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the shapes of two towers, or of the text's alone, do not tell of them.

    Raises ValueError for one that `ClipEncoder` would compute otherwise.
    """
    for tower in (text, vision or {}):
        if (eps := tower.get("layer_norm_eps", 1e-5)) != 1e-5:
            raise ValueError(f"the model has layer_norm_eps {eps}; only 1e-05 is computed")
    config = {"transformer_heads": text["num_attention_heads"], "text_activation": _activation(text)}
    if vision is None:
        return {**config, "activation": config["text_activation"]}
    head_width = vision["hidden_size"] // vision["num_attention_heads"]
    return {**config, "activation": _activation(vision), "vision_head_width": head_width}


def _activation(said: Mapping[str, Any]) -> str:
    activation = str(said.get("hidden_act", "quick_gelu"))
    return "gelu_tanh" if activation == "gelu_pytorch_tanh" else activation


def _pictures(folder: Path, side: int) -> dict[str, Any]:
    """How pictures are prepared; what is not said is as in OpenAI's models, whose the class is.

    Raises ValueError where it would be otherwise than `Preprocess` does it.
    """
    files = (folder / name for name in ("preprocessor_config.json", "processor_config.json"))
    content = next((json.loads(path.read_text(encoding="utf-8")) for path in files if path.is_file()), {})
    said = content.get("image_processor", content)
    size, crop = said.get("size") or side, said.get("crop_size") or side
    square = {"height": side, "width": side}
    crops = said.get("do_center_crop") is not False
    fits = (
        crop in (side, square) and size in (side, square, {"shortest_edge": side})
        if crops
        else size == square
    )
    steps = [said.get(f"do_{step}") is not False for step in ("resize", "rescale", "normalize")]
    resample = 3 if said.get("resample") is None else said["resample"]
    if not (fits and all(steps) and resample in (2, 3)):
        raise ValueError(
            f"{folder} prepares pictures in a way that is not supported; expected resizing to {side} px, bicubic or "
            "bilinear, the middle square, and normalising"
        )
    found = {name: said[name] for name in ("image_mean", "image_std") if said.get(name) is not None}
    found |= {"interpolation": "bilinear" if resample == 2 else "bicubic"}
    return found | ({"resize_mode": "squash"} if size == square else {})


def read_config(name: str, path: Path) -> dict[str, Any]:
    """What the config.json of a model says. Raises ValueError unless it is a CLIPModel's."""
    said = json.loads(path.read_text(encoding="utf-8"))
    if said.get("model_type") != "clip" or "text_config" not in said or "vision_config" not in said:
        raise ValueError(
            f"{name} holds a model of transformers of the kind {said.get('model_type')!r}; only CLIPModel is read"
        )
    return said


def tokenizer_of_folder(folder: Path) -> ClipTokenizer:
    """The tokenizer of a CLIPTokenizer's folder: its vocabulary, split as OpenAI's splits."""
    if (folder / "vocab.json").is_file():
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    else:
        model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        vocabulary, merges = model["vocab"], model["merges"]
    pairs = []
    for merge in merges:
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        pairs.append((first, second))
    return ClipTokenizer.from_vocabulary(vocabulary, pairs)


def _named(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of one tower under OpenAI's names."""
    named, apart = {}, {}
    for key, value in weights.items():
        if key.endswith("position_ids"):
            continue
        if key in PROJECTIONS:
            named[PROJECTIONS[key]] = value.T
            continue
        key = re.sub(r"^(text_model|vision_model)\.", "", key)
        for theirs, ours in NAMES.items():
            key = key.replace(theirs, ours)
        place = re.fullmatch(r"(.+)\.self_attn\.([qkv])_proj\.(\w+)", key)
        if place is None:
            named[key] = value
        else:
            apart.setdefault(f"{place[1]}.attn.in_proj_{place[3]}", {})[place[2]] = value
    for key, parts in apart.items():
        named[key] = torch.cat([parts[part] for part in "qkv" if part in parts])
    return named
