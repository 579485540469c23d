"""Search over a folder of pictures: an index of their vectors, asked with words or with a picture."""

from .picture_index import Hit, PictureIndex

__all__ = ["Hit", "PictureIndex"]
