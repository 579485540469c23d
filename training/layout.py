"""What a network was made with, and what a recipe that goes on from it need not say, or may not say otherwise."""

from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar

from pydantic import BaseModel

from ..weights.table import nearest

T = TypeVar("T")
Settings = TypeVar("Settings", bound=BaseModel)


def going_on(settings: Settings, index: Mapping[str, Any], saved_as: Mapping[str, str]) -> Settings:
    """A recipe's settings; what it does not say is as in the index of the model that it goes on from.

    saved_as: the settings that an index knows, and what it calls them.
    """
    said = settings.model_fields_set
    had = {name: index[key] for name, key in saved_as.items() if name not in said and key in index}
    return settings.model_validate({**settings.model_dump(exclude_unset=True), **had})


def as_saved(settings: BaseModel, saved_as: Mapping[str, str]) -> dict[str, Any]:
    """What an index says of settings, see `going_on`."""
    return {key: getattr(settings, name) for name, key in saved_as.items()}


def layout_of(network: Any) -> dict[str, Any]:
    """The arguments that a network, a diffusers ConfigMixin, was made with, without what diffusers adds to them."""
    return {key: plain(value) for key, value in network.config.items() if not key.startswith("_")}


def plain(value: Any) -> Any:
    """A value of a config; from a file its tuples come back as lists."""
    return list(value) if isinstance(value, (tuple, list)) else value


def check_layout(
    model: str, had: Mapping[str, Any], layout: Mapping[str, Any], free: Sequence[str] = ()
) -> None:
    """Raise ValueError if a recipe's `layout` names what a network has not, or says it, unless `free`, otherwise."""
    _check_known(layout, had)
    for key, wanted in layout.items():
        if key not in free and plain(had[key]) != plain(wanted):
            raise ValueError(
                f"start_from: {model} has {key} {had[key]!r}, but model: in the recipe says {wanted!r}"
            )


def new_network(kind: Callable[..., T], layout: Mapping[str, Any], **own: Any) -> T:
    """A network of a recipe's `layout` and what its stage gives it. Raises ValueError for a key it does not take."""
    _check_known(layout, [name for name in signature(kind).parameters if name not in own])
    return kind(**layout, **own)


def _check_known(layout: Mapping[str, Any], known: Collection[str]) -> None:
    for key in layout:
        if key not in known:
            hint = nearest(key, known)
            raise ValueError(f"unknown key {key!r} under model:{hint}; known are {', '.join(known)}")
