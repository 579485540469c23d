"""Search over a folder of pictures: an index of their vectors, asked with words or with a picture."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .picture_index import Hit, PictureIndex

__all__ = ["Hit", "PictureIndex"]


def __getattr__(name: str):
    if name in __all__:
        from . import picture_index

        return getattr(picture_index, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
