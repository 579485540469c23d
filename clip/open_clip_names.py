"""open_clip's names -> files of weights and ClipEncoder configs, from the tables in the open_clip package.

The package itself is never imported: it needs a torchvision that works, and its tables do not.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

from ..weights import find_file
from ..weights.table import nearest
from .hub_files import hub_file
from .open_clip_package import open_clip_file, open_clip_folder

HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
SUPPORTED = (
    "supported are open_clip's own ViT and ResNet image towers with OpenAI's kind of text tower and tokenizer, such as "
    "ViT-B-32, ViT-L-14 or RN50; not timm, CoCa, SigLIP, CLIPA or Hugging Face towers"
)
# Keys that change nothing at these values, and what ClipEncoder cannot do at others.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
    "block_type": (None, "default"),
    "hf_model_pretrained": (True, False),
    "timm_model_pretrained": (True, False),
    "init_logit_scale": (),
    "patch_dropout": (),
    "attn_pooler_queries": (),
    "attn_pooler_heads": (),
    "output_tokens": (),
    "pad_id": (),
    "eos_id": (),
}
READ = {
    "vision_cfg": ("image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"),
    "text_cfg": ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"),
    "model": ("embed_dim", "quick_gelu", "init_logit_bias", "vision_cfg", "text_cfg"),
}


def find_open_clip(name: str, *, progress: bool = True) -> tuple[Path, dict[str, Any]]:
    """The weights and the ClipEncoder config of "ARCHITECTURE/TAG" in open_clip's table or "hf-hub:org/name".

    The file is downloaded on first use, from the Hub where open_clip has it there. The activation is the one that the
    weights were trained with: QuickGELU for OpenAI's also under the plain name of an architecture.
    Raises ValueError for an unknown name and for an architecture that ClipEncoder does not build, an OSError in one
    sentence if the file cannot be fetched.
    """
    if name.startswith(HUB):
        repository, _, revision = name[len(HUB) :].partition("@")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            raise ValueError(f"{name!r} names no repository of the Hub; expected {HUB}org/name")
        path = hub_file(repository, (CONFIG,), revision or None, progress)
        config = hub_config(name, path)
        return hub_file(repository, WEIGHTS, revision or None, progress), config
    config = open_clip_config(name)
    weights = _pretrained(name)
    # The Hub's copy of OpenAI's weights is another file; the original may already be in the cache.
    if weights["hf_hub"] and not name.endswith("/openai"):
        repository, _, file = weights["hf_hub"].rpartition("/")
        files = (f"{Path(file).stem}.safetensors", file) if file else WEIGHTS
        return hub_file(repository, files, None, progress), config
    return find_file(weights["url"], _hash_in(weights["url"]), progress=progress), config


def open_clip_names() -> list[str]:
    """All "ARCHITECTURE/TAG" of open_clip's table, whether or not ClipEncoder builds them."""
    return [f"{model}/{tag}" for model, tags in _table().items() for tag in tags]


def architectures() -> list[str]:
    """The names of open_clip's architectures, whether or not there are weights for them and ClipEncoder builds them."""
    return sorted(path.stem for path in (open_clip_folder() / "model_configs").glob("*.json"))


def open_clip_config(name: str) -> dict[str, Any]:
    """The ClipEncoder config of "ARCHITECTURE/TAG", or of "ARCHITECTURE" with OpenAI's preparation of pictures.

    Raises ValueError as `find_open_clip` does; nothing is downloaded.
    """
    weights = {} if name in architectures() else _pretrained(name)
    path = open_clip_file(f"model_configs/{name.partition('/')[0]}.json")
    return _translated(name, json.loads(path.read_text(encoding="utf-8")), weights)


def hub_config(name: str, path: Path) -> dict[str, Any]:
    """The ClipEncoder config in the `open_clip_config.json` of a Hub repository or beside a file. Raises ValueError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model, prepared = content["model_cfg"], content.get("preprocess_cfg", {})
        return _translated(name, model, prepared)
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"the open_clip_config.json of {name} describes no CLIP ({error!r})") from None


def _translated(name: str, model: dict[str, Any], prepared: dict[str, Any]) -> dict[str, Any]:
    """open_clip's config of a model, and how its pictures were prepared, in ClipEncoder's words."""
    vision, text = model["vision_cfg"], model["text_cfg"]
    others = [
        key
        for section, cfg in (("model", model), *model.items())
        if section in READ
        for key in _others(section, cfg)
    ]
    if not isinstance(vision.get("image_size", 224), int):
        others.append("image_size")
    if prepared.get("mode", "RGB") != "RGB":
        others.append("mode")
    if others:
        raise ValueError(
            f"{name} is a model that ClipEncoder does not build ({', '.join(others)}); {SUPPORTED}"
        )
    config: dict[str, Any] = {
        "embed_dim": model["embed_dim"],
        "image_resolution": vision.get("image_size", 224),
        "vision_layers": vision.get("layers", 12),
        "vision_width": vision.get("width", 768),
        "vision_patch_size": vision.get("patch_size", 16),
        "context_length": text.get("context_length", 77),
        "vocab_size": text.get("vocab_size", 49408),
        "transformer_width": text.get("width", 512),
        "transformer_heads": text.get("heads", 8),
        "transformer_layers": text.get("layers", 12),
        "vision_head_width": vision.get("head_width", 64),
        "vision_mlp_width": _mlp_width(vision, 768),
        "transformer_mlp_width": _mlp_width(text, 512),
        "activation": "quick_gelu" if model.get("quick_gelu") or prepared.get("quick_gelu") else "gelu",
        "logit_bias": model.get("init_logit_bias") is not None,
    }
    # Absent on the Hub, they are OpenAI's, which are ClipEncoder's own defaults.
    words = {"mean": "image_mean", "std": "image_std"}
    for word in ("mean", "std", "interpolation", "resize_mode"):
        if word in prepared:
            value = prepared[word]
            config[words.get(word, word)] = list(value) if isinstance(value, (list, tuple)) else value
    return config


def _others(section: str, config: dict[str, Any]) -> list[str]:
    """The keys of a section that say something which ClipEncoder cannot do."""
    return [
        key
        for key, value in config.items()
        if key not in READ[section]
        and value not in (None, False, 0)
        and (key not in NEUTRAL or (NEUTRAL[key] and value not in NEUTRAL[key]))
    ]


def _mlp_width(config: dict[str, Any], width: int) -> int | None:
    ratio = config.get("mlp_ratio", 4.0)
    return None if ratio == 4 else int(config.get("width", width) * ratio)


def _pretrained(name: str) -> dict[str, Any]:
    """What the table says about "ARCHITECTURE/TAG": "url", "hf_hub", "mean", "std", … Raises ValueError."""
    model, _, tag = name.partition("/")
    table = _table()
    if model not in table:
        hint = nearest(model, table)
        raise ValueError(
            f"open_clip has no weights for {model!r}{hint}; expected a name like ViT-B-32/laion2b_s34b_b79k"
        )
    tag = tag.lower().replace("-", "_")
    if tag not in table[model]:
        raise ValueError(
            f"open_clip has no weights {tag!r} for {model}{nearest(tag, table[model])}; "
            f"known are {', '.join(f'{model}/{known}' for known in table[model])}"
        )
    return table[model][tag]


def _hash_in(url: str) -> str | None:
    """The SHA-256, or its start, that OpenAI's and open_clip's own addresses contain."""
    found = re.search(r"/([0-9a-f]{64})/[^/]+$|-([0-9a-f]{8})\.\w+$", url)
    return found and (found[1] or found[2])


@cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    """architecture -> tag -> where its weights lie and how its pictures are prepared."""
    # A package of another name over the same files, whose __init__ is thus not run; the module imports its neighbours
    # relatively.
    stand_in = types.ModuleType("maquette_open_clip_tables")
    stand_in.__path__ = [str(open_clip_folder())]
    sys.modules[stand_in.__name__] = stand_in
    return importlib.import_module(f"{stand_in.__name__}.pretrained")._PRETRAINED
