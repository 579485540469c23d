"""Which of the two ways from words to pictures a model takes."""

from __future__ import annotations

import os

from ..weights.model_folder import read_index
from ..weights.table import known_models, nearest, unclip_task
from .convert import ready_model

FAMILIES = ("glide", "unclip")


def check_family(via: str | None) -> None:
    """Raises ValueError unless it is None or a way from words to pictures."""
    if via is not None and via not in FAMILIES:
        raise ValueError(f"unknown way {via!r}{nearest(via, FAMILIES)}; known are {' and '.join(FAMILIES)}")


def chosen_family(model: str | os.PathLike, via: str | None = None) -> str:
    """ "glide" or "unclip", as `via` says or else as the text-to-image model is, which is made ready for that.

    Raises ValueError for another `via`, or for a model that has no such way, and what `ready_model` raises.
    """
    check_family(via)
    if via == "unclip" and os.fspath(model) in known_models("text-to-image").keys() - _unclip_names():
        raise ValueError(
            f"{os.fspath(model)} has no unCLIP; give a model's folder or {' or '.join(sorted(_unclip_names()))}"
        )
    place = ready_model(model, unclip_task(model) if via == "unclip" else "text-to-image")
    index = {} if place.is_file() else read_index(place)
    family = "unclip" if str(index.get("_class_name")).startswith("UnCLIP") else "glide"
    if via not in (None, family):
        raise ValueError(f"{os.fspath(model)} has no {via}, it draws via {family}; give another model")
    return family


def _unclip_names() -> set[str]:
    """The names of the table that draw words via unCLIP."""
    drawing, varying = known_models("text-to-image"), known_models("image-variation")
    return {name for name, entry in drawing.items() if "repository" in entry or name in varying}
