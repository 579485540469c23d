"""The table of models that Maquette knows by name, models.json."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@cache
def _table() -> dict[str, dict[str, Any]]:
    return json.loads((HERE / "models.json").read_text(encoding="utf-8"))


def known_models(task: str | None = None) -> dict[str, dict[str, Any]]:
    """name -> its entry, of all models or of those for one task.

    "tasks": task -> what it needs: a folder beside this file (weights that ship with the package), or a list of names
    in "files". "converted": these become a model folder in the cache, and are not loaded as they are.
    "files": name -> "url", "sha256" (hexadecimal; null: none is published) and "megabytes" (10^6 bytes) of a published
    file, or "parameters" (millions) if nothing says how many bytes each takes; "source" and "licence" say whose they
    are. "repository": of the Hub, in diffusers' layout, in place of files, with "parameters" (millions) in all.
    "knows": the world the model was shown, if it is not the whole one.
    """
    return {name: entry for name, entry in _table().items() if task is None or task in entry["tasks"]}


def unclip_task(model: str | os.PathLike) -> str:
    """The task under which a text-to-image unCLIP is found: a model that has a GLIDE too has it with its variations."""
    return "image-variation" if os.fspath(model) in known_models("image-variation") else "text-to-image"


def model_entry(name: str) -> dict[str, Any]:
    """The entry of a known model. Raises ValueError that names the nearest one."""
    models = known_models()
    if name not in models:
        raise ValueError(f"unknown model {name!r}{nearest(name, models)}; known are {', '.join(models)}")
    return models[name]


def model_file(name: str, part: str | None = None) -> dict[str, Any]:
    """The entry of a published file: of the only one of a model, or of its `part`. Raises ValueError."""
    entry = model_entry(name)
    files = entry.get("files")
    if "repository" in entry:
        raise ValueError(f"{name} is a repository of the Hub, not a file")
    if not files:
        raise ValueError(f"{name} ships with the package; there is nothing to download")
    part = next(iter(files)) if part is None and len(files) == 1 else part
    if part not in files:
        raise ValueError(f"{name} has several files; say which: {', '.join(files)}")
    return files[part]


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is most like this one, or nothing."""
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean {by_lower[found[0]]!r}?)" if found else ""
