"""open_clip's names -> files of weights and what they are, by open_clip's tables.

Importing open_clip takes a second or more, so it is imported where a name is looked up.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..weights import find_file
from ..weights.table import nearest
from .hub import hub_file
from .open_clip_config import WEIGHTS, OpenClipConfig


def find_open_clip(name: str) -> tuple[Path, OpenClipConfig]:
    """The weights of "ARCHITECTURE/TAG" in open_clip's table, and what they are.

    The file is downloaded on first use, from the Hub where open_clip has it there. Raises ValueError for an unknown
    name, and what huggingface_hub and `find_file` raise if the file cannot be fetched.
    """
    config = open_clip_config(name)
    weights = _pretrained(name)
    # The Hub's copy of OpenAI's weights is another file; the original may already be in the cache.
    if weights["hf_hub"] and not name.endswith("/openai"):
        repository, _, file = weights["hf_hub"].rpartition("/")
        files = (f"{Path(file).stem}.safetensors", file) if file else WEIGHTS
        return hub_file(repository, files), config
    return find_file(weights["url"], _hash_in(weights["url"])), config


def open_clip_names() -> list[str]:
    """All "ARCHITECTURE/TAG" of open_clip's table."""
    from open_clip import list_pretrained

    return [f"{model}/{tag}" for model, tag in list_pretrained()]


def open_clip_millions(name: str) -> int:
    """The parameters of "ARCHITECTURE/TAG", in millions, from a table: to count them the model has to be built."""
    sizes = json.loads(Path(__file__).with_name("open_clip_sizes.json").read_text(encoding="utf-8"))
    architecture = name.partition("/")[0]
    return sizes[architecture.removesuffix("-quickgelu")]


def architectures() -> list[str]:
    """The names of open_clip's architectures, whether or not there are weights for them."""
    from open_clip import list_models

    return list_models()


def open_clip_config(name: str) -> OpenClipConfig:
    """What "ARCHITECTURE/TAG" is, or "ARCHITECTURE" with OpenAI's preparation of pictures; nothing is downloaded.

    Raises ValueError as `find_open_clip` does.
    """
    from open_clip import get_model_config

    weights = {} if name in architectures() else _pretrained(name)
    model = get_model_config(name.partition("/")[0])
    assert model is not None  # as for all architectures that are listed or have weights
    return OpenClipConfig(name, model, weights)


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
