"""A name, a file or a folder -> the encoder and the tokenizer in it, by looking at what is there."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..weights import find_folder, find_weights, known_models, read_weights
from ..weights.checksums import check_checksums
from ..weights.model_folder import INDEX, load_part, read_index
from ..weights.read_weights import is_archive
from ..weights.table import nearest
from . import transformers_names
from .encoder import ClipEncoder
from .hub import HUB, hub_folder
from .open_clip_config import CONFIG, WEIGHTS, OpenClipConfig, read_config
from .open_clip_encoder import OpenClipEncoder
from .open_clip_names import (
    architectures,
    find_open_clip,
    open_clip_config,
    open_clip_names,
)
from .open_clip_tokenizer import OpenClipTokenizer, tokenizer_of
from .tokenizer import ClipTokenizer

TASK = "zero-shot-image-classification"
WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors")


class Loaded(NamedTuple):
    """What a model is made of, whoever wrote it."""

    encoder: ClipEncoder | OpenClipEncoder
    tokenizer: ClipTokenizer | OpenClipTokenizer


def load_clip(model: str, config: str | Mapping[str, Any] | None) -> Loaded:
    """What `ClipModel.from_pretrained` takes, float32 on the CPU. Raises as that does."""
    if config is not None and not os.path.isfile(model):
        raise ValueError(
            f"config goes with the path of a file of weights, and {model!r} is none; leave it out"
        )
    if (
        model not in known_models(TASK)
        and os.path.isdir(model)
        and not os.path.isfile(os.path.join(model, INDEX))
    ):
        return _load_foreign_folder(Path(model))
    folder = find_folder(model, TASK)
    if folder is not None:
        return _load_folder(folder)
    if model in known_models(TASK):
        path = find_weights(model, "weights")
        return Loaded(ClipEncoder.from_original(read_weights(path)), ClipTokenizer.openai())
    if os.path.exists(model):
        return _load_file(Path(model), config)
    architecture, slash, _ = model.partition("/")
    is_file = model.endswith(WEIGHT_FILES)
    if model.startswith(HUB):
        return _load_foreign_folder(hub_folder(model), model)
    if slash and not is_file and architecture in architectures():
        return _built(*find_open_clip(model))
    if is_file or len(Path(model).parts) > 2 or os.path.isabs(model):
        raise FileNotFoundError(
            f"there is no file or folder {model}; give the path of a checkpoint or a model's folder"
        )
    hint = nearest(model, known_models(TASK)) or nearest(model, open_clip_names())
    raise ValueError(
        f"there is no file or folder {model!r}, and no model of that name{hint}; known are "
        f"{', '.join(known_models(TASK))}, open_clip's names such as ViT-B-32/laion2b_s34b_b79k, and repositories of "
        f"the Hub such as {HUB}openai/clip-vit-base-patch32"
    )


def _load_folder(folder: Path) -> Loaded:
    """A model that `save_pretrained` or a training wrote; its index says of which classes the parts are."""
    index = read_index(folder)
    theirs = index["tokenizer"][-1] == OpenClipTokenizer.__name__
    return Loaded(
        load_part(ClipEncoder, folder / "encoder", torch.float32),
        load_part(OpenClipTokenizer if theirs else ClipTokenizer, folder / "tokenizer", torch.float32),
    )


def _load_foreign_folder(folder: Path, name: str | None = None) -> Loaded:
    """A folder in open_clip's layout, or one that transformers wrote. name: of the Hub's, whose copy it is."""
    check_checksums(folder)
    if (folder / CONFIG).is_file():
        names = (*WEIGHTS, *transformers_names.WEIGHTS)
        found = [folder / name for name in names if (folder / name).is_file()]
        if not found:
            raise FileNotFoundError(f"{folder} has a {CONFIG}, but no {WEIGHTS[0]} beside it")
        config = read_config(name or str(folder), folder / CONFIG)
        return _built(found[0], config, None if name else folder)
    if (folder / transformers_names.CONFIG).is_file():
        return Loaded(
            transformers_names.clip_of_folder(folder), transformers_names.tokenizer_of_folder(folder)
        )
    raise FileNotFoundError(
        f"{folder} is not a model's folder: it has no {INDEX}, {CONFIG} or {transformers_names.CONFIG}; "
        "give one that has"
    )


def _load_file(path: Path, config: str | Mapping[str, Any] | None) -> Loaded:
    """A checkpoint, of which `config`, a file beside it, or else custom tells what shapes cannot."""
    beside = path.with_name(CONFIG)
    if isinstance(config, str):
        return _built(path, open_clip_config(config))
    if config is not None:
        # Without what diffusers notes in a config.json.
        config = {name: value for name, value in config.items() if not name.startswith("_")}
    elif beside.is_file():
        return _built(path, read_config(str(path), beside), path.parent)
    elif path.with_name(transformers_names.CONFIG).is_file() and path.name in transformers_names.WEIGHTS:
        return _load_foreign_folder(path.parent)
    weights = read_weights(path)
    encoder = ClipEncoder.from_original(weights, config)
    if config is None and not is_archive(path):
        warnings.warn(
            f"{path} is read as one of OpenAI's models, with their activation and preparation of pictures; if it is "
            f"open_clip's, put its {CONFIG} beside it, or load it in Python with config='ViT-B-32/laion2b_s34b_b79k' "
            "or whatever it is",
            stacklevel=4,
        )
    return Loaded(encoder, ClipTokenizer.openai())


def _built(path: Path, config: OpenClipConfig, folder: Path | None = None) -> Loaded:
    """The weights in a file as what open_clip says that they are, with the tokenizer that goes with them."""
    config.warn_of_activation()
    tokenizer = tokenizer_of(config.model["text_cfg"], folder)
    weights = read_weights(path)
    if config.ours:
        return Loaded(ClipEncoder.from_original(weights, config.encoder()), tokenizer)
    return Loaded(OpenClipEncoder.from_original(weights, config.model, config.prepared), tokenizer)
