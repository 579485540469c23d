"""The words of Toybox: things, colours, sizes, finishes and relations, and which pairs are held out."""

import zlib

THINGS = (
    "cube", "ball", "cylinder", "cone", "pyramid", "ring", "chair", "table", "lamp", "mug",
    "house", "tree", "car", "rocket", "snowman", "mushroom", "bottle", "bed", "boat", "airplane",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
SIZES = ("small", "large")
FINISHES = ("matte", "shiny")
RELATIONS = ("on top of", "left of", "right of", "in front of", "behind")
SUPPORTS = ("cube", "cylinder", "table", "bed", "chair")
"""Things with a flat top that another thing can stand on."""


def is_held_out(thing: str, colour: str) -> bool:
    """Whether the pair is kept out of `train` and `val`, and so makes up `novel`.

    Raises ValueError for a thing or colour that Toybox does not have.
    """
    if thing not in THINGS:
        raise ValueError(f"unknown thing {thing!r}: expected one of {', '.join(THINGS)}")
    if colour not in COLOURS:
        raise ValueError(f"unknown colour {colour!r}: expected one of {', '.join(COLOURS)}")
    return zlib.crc32(f"{colour} {thing}".encode()) % 10 == 0
