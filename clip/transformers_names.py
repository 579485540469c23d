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
    named = {**_named(weights), "logit_scale": torch.tensor(math.log(100))}
    config = _text_config(said)
    if image is not None:
        weights, said = image
        named |= {f"visual.{key}": value for key, value in _named(weights).items()}
        config["vision_head_width"] = said["hidden_size"] // said["num_attention_heads"]
    return ClipEncoder.from_original(named, config)


def clip_of_folder(folder: Path) -> ClipEncoder:
    """The encoder of a whole CLIPModel that transformers saved: config.json, weights, preprocessor_config.json.

    Raises ValueError for another kind of model, and FileNotFoundError if there are no weights.
    """
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if said.get("model_type") != "clip" or "text_config" not in said or "vision_config" not in said:
        raise ValueError(
            f"{folder} holds a model of transformers of the kind {said.get('model_type')!r}; only CLIPModel is read"
        )
    weights = read_weights(
        next((path for name in WEIGHTS if (path := folder / name).is_file()), folder / WEIGHTS[0])
    )
    text = {key: value for key, value in weights.items() if key.startswith("text_")}
    image = {key: value for key, value in weights.items() if key.startswith("vis")}
    named = {**_named(text), **{f"visual.{key}": value for key, value in _named(image).items()}}
    named |= {key: value for key, value in weights.items() if key not in text and key not in image}
    # Old files say only what differs from the published ViT-B/32, and some say nothing of it but beside.
    vision = {"hidden_size": 768, "num_attention_heads": 12, **said["vision_config"]}
    config = _text_config({"num_attention_heads": 8, **said["text_config"]})
    config["vision_head_width"] = vision["hidden_size"] // vision["num_attention_heads"]
    return ClipEncoder.from_original(named, {**config, **_pictures(folder / "preprocessor_config.json")})


def _text_config(said: Mapping[str, Any]) -> dict[str, Any]:
    activation = said.get("hidden_act", "quick_gelu")
    return {
        "transformer_heads": said["num_attention_heads"],
        "activation": {"gelu_pytorch_tanh": "gelu_tanh"}.get(activation, activation),
    }


def _pictures(path: Path) -> dict[str, Any]:
    """How pictures are prepared; what is not said is as in OpenAI's models, whose the class is."""
    said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    size = said.get("size", {})
    found = {name: said[name] for name in ("image_mean", "image_std") if name in said}
    if "resample" in said:
        found["interpolation"] = {2: "bilinear", 3: "bicubic"}.get(said["resample"], said["resample"])
    if isinstance(size, dict) and "height" in size:
        found["resize_mode"] = "squash"
    return found


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
