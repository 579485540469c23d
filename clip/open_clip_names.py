"""open_clip's names -> files of weights and ClipEncoder configs, by open_clip's tables.

Importing open_clip takes a second or more, so it is imported where a name is looked up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..weights import find_file
from ..weights.download import offline
from ..weights.table import nearest

if TYPE_CHECKING:
    from open_clip import CLIPTextCfg, CLIPVisionCfg

HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
SUPPORTED = (
    "supported are open_clip's own ViT and ResNet image towers with OpenAI's kind of text tower and tokenizer, such as "
    "ViT-B-32, ViT-L-14 or RN50; not timm, CoCa, SigLIP, CLIPA or Hugging Face towers"
)
# open_clip's settings that ClipEncoder follows, and those that change no vector of the models that it builds.
MODEL = {"embed_dim", "quick_gelu", "init_logit_bias", "init_logit_scale", "vision_cfg", "text_cfg"}
TOWERS = {
    "image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "context_length", "vocab_size", "heads",
    "patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "output_tokens", "pad_id", "eos_id",
}  # fmt: skip


def find_open_clip(name: str, *, progress: bool = True) -> tuple[Path, dict[str, Any]]:
    """The weights and the ClipEncoder config of "ARCHITECTURE/TAG" in open_clip's table or "hf-hub:org/name".

    The file is downloaded on first use, from the Hub where open_clip has it there. The activation is the one that the
    weights were trained with: QuickGELU for OpenAI's also under the plain name of an architecture.
    Raises ValueError for an unknown name and for an architecture that ClipEncoder does not build, and what
    huggingface_hub and `find_file` raise if the file cannot be fetched.
    """
    if name.startswith(HUB):
        repository, _, revision = name[len(HUB) :].partition("@")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
            raise ValueError(f"{name!r} names no repository of the Hub; expected {HUB}org/name")
        path = _hub_file(repository, (CONFIG,), revision or None, progress)
        config = hub_config(name, path)
        return _hub_file(repository, WEIGHTS, revision or None, progress), config
    config = open_clip_config(name)
    weights = _pretrained(name)
    # The Hub's copy of OpenAI's weights is another file; the original may already be in the cache.
    if weights["hf_hub"] and not name.endswith("/openai"):
        repository, _, file = weights["hf_hub"].rpartition("/")
        files = (f"{Path(file).stem}.safetensors", file) if file else WEIGHTS
        return _hub_file(repository, files, None, progress), config
    return find_file(weights["url"], _hash_in(weights["url"]), progress=progress), config


def open_clip_names() -> list[str]:
    """All "ARCHITECTURE/TAG" of open_clip's table, whether or not ClipEncoder builds them."""
    from open_clip import list_pretrained

    return [f"{model}/{tag}" for model, tag in list_pretrained()]


def architectures() -> list[str]:
    """The names of open_clip's architectures, whether or not there are weights for them and ClipEncoder builds them."""
    from open_clip import list_models

    return list_models()


def open_clip_config(name: str) -> dict[str, Any]:
    """The ClipEncoder config of "ARCHITECTURE/TAG", or of "ARCHITECTURE" with OpenAI's preparation of pictures.

    Raises ValueError as `find_open_clip` does; nothing is downloaded.
    """
    from open_clip import get_model_config

    weights = {} if name in architectures() else _pretrained(name)
    model = get_model_config(name.partition("/")[0])
    assert model is not None  # as for all architectures that are listed or have weights
    return _translated(name, model, weights)


def hub_config(name: str, path: Path) -> dict[str, Any]:
    """The ClipEncoder config in the `open_clip_config.json` of a Hub repository or beside a file. Raises ValueError."""
    content = json.loads(path.read_text(encoding="utf-8"))
    model = content.get("model_cfg", {})
    lacking = {"embed_dim", "vision_cfg", "text_cfg"} - model.keys()
    if lacking:
        raise ValueError(
            f"the {CONFIG} of {name} describes no CLIP: its model_cfg lacks {', '.join(sorted(lacking))}"
        )
    return _translated(name, model, content.get("preprocess_cfg", {}))


def _translated(name: str, model: dict[str, Any], prepared: dict[str, Any]) -> dict[str, Any]:
    """open_clip's config of a model, and how its pictures were prepared, in ClipEncoder's words."""
    from open_clip import CLIPTextCfg, CLIPVisionCfg

    vision, text = CLIPVisionCfg(**model["vision_cfg"]), CLIPTextCfg(**model["text_cfg"])
    others = [key for key, value in model.items() if value and key not in MODEL]
    others += [*_others(vision), *_others(text)]
    if not isinstance(vision.image_size, int):
        others.append("image_size")
    if prepared.get("mode", "RGB") != "RGB":
        others.append("mode")
    if others:
        raise ValueError(
            f"{name} is a model that ClipEncoder does not build ({', '.join(others)}); {SUPPORTED}"
        )
    config: dict[str, Any] = {
        "embed_dim": model["embed_dim"],
        "image_resolution": vision.image_size,
        "vision_layers": vision.layers,
        "vision_width": vision.width,
        "vision_patch_size": vision.patch_size,
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "transformer_width": text.width,
        "transformer_heads": text.heads,
        "transformer_layers": text.layers,
        "vision_head_width": vision.head_width,
        "vision_mlp_width": _mlp_width(vision),
        "transformer_mlp_width": _mlp_width(text),
        "activation": "quick_gelu" if model.get("quick_gelu") or prepared.get("quick_gelu") else "gelu",
        "logit_bias": model.get("init_logit_bias") is not None,
    }
    # What a repository does not say of its pictures is as in OpenAI's models, which is ClipEncoder's default.
    words = {"mean": "image_mean", "std": "image_std"}
    for word in ("mean", "std", "interpolation", "resize_mode"):
        if word in prepared:
            value = prepared[word]
            config[words.get(word, word)] = list(value) if isinstance(value, (list, tuple)) else value
    return config


def _others(tower: CLIPVisionCfg | CLIPTextCfg) -> list[str]:
    """The settings of a tower that differ from open_clip's defaults in what ClipEncoder cannot do."""
    return [
        field.name
        for field in fields(tower)
        if field.name not in TOWERS and getattr(tower, field.name) != field.default
    ]


def _mlp_width(tower: CLIPVisionCfg | CLIPTextCfg) -> int | None:
    return None if tower.mlp_ratio == 4 else int(tower.width * tower.mlp_ratio)


def _pretrained(name: str) -> dict[str, Any]:
    """What the table says about "ARCHITECTURE/TAG": "url", "hf_hub", "mean", "std", … Raises ValueError."""
    from open_clip import get_pretrained_cfg, list_pretrained, list_pretrained_tags_by_model

    model, _, tag = name.partition("/")
    tags = list_pretrained_tags_by_model(model)
    if not tags:
        hint = nearest(model, [known for known, _ in list_pretrained()])
        raise ValueError(
            f"open_clip has no weights for {model!r}{hint}; expected a name like ViT-B-32/laion2b_s34b_b79k"
        )
    found = get_pretrained_cfg(model, tag)
    if not found:
        raise ValueError(
            f"open_clip has no weights {tag!r} for {model}{nearest(tag, tags)}; "
            f"known are {', '.join(f'{model}/{known}' for known in tags)}"
        )
    return found


def _hash_in(url: str) -> str | None:
    """The SHA-256, or its start, that OpenAI's and open_clip's own addresses contain."""
    found = re.search(r"/([0-9a-f]{64})/[^/]+$|-([0-9a-f]{8})\.\w+$", url)
    return found and (found[1] or found[2])


def _hub_file(repository: str, names: Sequence[str], revision: str | None, progress: bool) -> Path:
    """The first of `names` that the repository has, from the Hub's own cache or downloaded into it.

    Raises what huggingface_hub raises; MAQUETTE_OFFLINE forbids downloads here as well.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from tqdm import tqdm

    bar: Any = None if progress else partial(tqdm, disable=True)
    download = partial(
        hf_hub_download, repository, revision=revision, local_files_only=offline(), tqdm_class=bar
    )
    for name in names[:-1]:
        with suppress(EntryNotFoundError):
            return Path(download(name))
    return Path(download(names[-1]))
