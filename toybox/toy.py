"""One thing of the world, as words."""

from __future__ import annotations

from dataclasses import dataclass

from .vocabulary import FINISHES, SIZES, is_held_out


@dataclass(frozen=True)
class Toy:
    """One thing in a scene; `size` and `finish` are None when they are left unsaid.

    Raises ValueError for a word that Toybox does not have.
    """

    thing: str
    colour: str
    size: str | None = None
    finish: str | None = None

    def __post_init__(self) -> None:
        is_held_out(self.thing, self.colour)  # raises for an unknown thing or colour
        for name, value, known in (("size", self.size, SIZES), ("finish", self.finish, FINISHES)):
            if value is not None and value not in known:
                raise ValueError(f"unknown {name} {value!r}: expected one of {', '.join(known)}, or None")
