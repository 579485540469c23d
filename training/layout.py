"""What a network was made with, and whether a recipe that goes on from it says the same."""

from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import signature
from typing import Any, TypeVar

from ..weights.table import nearest

T = TypeVar("T")


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
