"""A photo with a hole to be painted: what a mask says, the square around the hole, and its way back into the photo."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..clip.preprocess import to_8_bits, to_rgb, upright

SMALLEST = 64
# A mask stored as a JPEG is nowhere quite black or white.
NEARLY = 8 / 255


@dataclass(frozen=True)
class MaskedPhoto:
    """pixels: uint8 [H, W, 3]. hole: float32 [H, W], 0 where they stay, 1 where they are painted anew, or in between."""

    pixels: np.ndarray
    hole: np.ndarray


@dataclass(frozen=True)
class Square:
    """A square part of a photo, from pixel (left, top) on; it may reach past the photo's edges, where all is hole.

    pixels: uint8 [side, side, 3], in the hole the nearest known pixel's colour. hole: as in MaskedPhoto.
    weight: float32 [side, side], what the paint counts: 0 at every known pixel, rising to `hole` away from them.
    """

    left: int
    top: int
    pixels: np.ndarray
    hole: np.ndarray
    weight: np.ndarray


def mask_photo(
    image: Image.Image,
    mask: Image.Image | None = None,
    box: Sequence[int] | None = None,
    expand: int | Sequence[int] = 0,
) -> MaskedPhoto:
    """A photo of any mode, turned as its EXIF says, with what is to be painted anew.

    mask: a picture of the photo's proportions and of any mode, white (or transparent) where to paint, black where the
    photo stays, grey where both are mixed. box: (x, y, width, height) in the photo's pixels instead of a mask. With
    neither the photo's transparent pixels are painted. expand: how many pixels to add and paint on the left, top,
    right and bottom, or one number for all four. Raises ValueError or TypeError.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"the photo must be a PIL picture, not {type(image).__name__}")
    image = upright(image)
    if min(image.size) < SMALLEST:
        raise ValueError(
            f"the photo has {_size(image)} pixels; it must have at least {SMALLEST} on each side"
        )
    if mask is not None and box is not None:
        raise ValueError("both a mask and a box were given; give one of them")
    margins = _margins(expand, image.size)
    transparent = mask is None and box is None and image.has_transparency_data
    if transparent:
        rgba = to_8_bits(image).convert("RGBA")
        pixels, hole = np.asarray(rgba.convert("RGB")), 255 - np.asarray(rgba.getchannel("A"))
    else:
        pixels = np.asarray(to_rgb(image))
        hole = _from_mask(mask, image) if mask is not None else _from_box(box, image)
    hole = hole.astype(np.float32) / 255
    hole[hole <= NEARLY], hole[hole >= 1 - NEARLY] = 0, 1
    left, top, right, bottom = margins
    around = ((top, bottom), (left, right))
    photo = MaskedPhoto(np.pad(pixels, (*around, (0, 0))), np.pad(hole, around, constant_values=1))
    if not photo.hole.any():
        if mask is not None:
            raise ValueError("the mask is black everywhere; paint white what is to be painted anew")
        raise ValueError(
            "nothing says what to paint anew: give a mask or a box, expand the photo, or make "
            "that part of it transparent"
        )
    if photo.hole.all():
        raise ValueError(
            "nothing of the photo would stay as it is; a mask must be black, and a photo without one "
            "opaque, where the photo is to stay"
        )
    return photo


def cut_square(photo: MaskedPhoto, least: int) -> Square:
    """The square in which to paint a photo's hole, with known pixels beside it.

    least: pixels of a side below which nothing is gained: what the networks make.
    """
    from scipy.ndimage import distance_transform_edt

    left, top, side = square_around(photo.hole, least)
    height, width = photo.hole.shape
    inside = slice(max(top, 0), top + side), slice(max(left, 0), left + side)
    outside = (
        (max(-top, 0), max(top + side - height, 0)),
        (max(-left, 0), max(left + side - width, 0)),
    )
    pixels = np.pad(photo.pixels[inside], (*outside, (0, 0)))
    hole = np.pad(photo.hole[inside], outside, constant_values=1)
    distance, nearest = distance_transform_edt(hole > 0, return_indices=True)
    # What was in the hole must show neither to the networks nor in the seam, which is a base network's pixel wide.
    pixels[hole == 1] = pixels[tuple(nearest[:, hole == 1])]
    seam = max(1, round(side / 64))
    weight = np.minimum(hole, distance / (seam + 1)).astype(np.float32)
    return Square(left, top, pixels, hole, weight)


def square_around(hole: np.ndarray, least: int) -> tuple[int, int, int]:
    """(left, top, side) of a square around all of `hole` [H, W] that is not 0.

    The hole's longer side is at most half the square's, as far as the photo's shorter side goes, and two thirds as far
    as its longer one does. The square lies within the photo where it fits and in its middle where it does not.
    """
    height, width = hole.shape
    spans = [np.flatnonzero(hole.any(axis)) for axis in (0, 1)]
    longest = max(int(span[-1] - span[0]) + 1 for span in spans)
    side = min(max(least, 2 * longest), max(min(width, height), -(-3 * longest // 2)), max(width, height))
    left, top = (
        (size - side) // 2
        if side > size
        else min(max(int(span[0] + span[-1] + 1 - side) // 2, 0), size - side)
        for span, size in zip(spans, (width, height), strict=True)
    )
    return left, top, side


def paste(photo: MaskedPhoto, square: Square, painted: Image.Image) -> Image.Image:
    """The photo with a painted square, of any size, in its hole; every pixel where `hole` is 0 is the photo's own."""
    side = len(square.hole)
    painted = painted.resize((side, side), Image.Resampling.BICUBIC)
    weight = square.weight[..., None]
    mixed = np.rint(square.pixels * (1 - weight) + np.asarray(painted) * weight).astype(np.uint8)
    height, width = photo.hole.shape
    rows, columns = (
        slice(max(start, 0), min(start + side, size))
        for start, size in ((square.top, height), (square.left, width))
    )
    within = mixed[
        rows.start - square.top : rows.stop - square.top,
        columns.start - square.left : columns.stop - square.left,
    ]
    pixels = photo.pixels.copy()
    pixels[rows, columns] = np.where(photo.hole[rows, columns, None] > 0, within, pixels[rows, columns])
    return Image.fromarray(pixels)


def _from_mask(mask: Image.Image, image: Image.Image) -> np.ndarray:
    if not isinstance(mask, Image.Image):
        raise TypeError(f"the mask must be a PIL picture, not {type(mask).__name__}")
    mask = to_rgb(upright(mask)).convert("L")
    # A smaller copy of the photo is rounded to whole pixels.
    if abs(mask.width * image.height - mask.height * image.width) > max(image.size):
        raise ValueError(
            f"the mask has {_size(mask)} pixels and the photo {_size(image)}; their proportions must be the same"
        )
    return np.asarray(mask.resize(image.size, Image.Resampling.BILINEAR))


def _from_box(box: Sequence[int] | None, image: Image.Image) -> np.ndarray:
    hole = np.zeros((image.height, image.width), np.uint8)
    if box is not None:
        numbers = _whole_numbers(box)
        if len(numbers) != 4 or min(numbers[2:]) < 1:
            raise ValueError(
                f"a box is x, y, width and height in whole pixels, such as (10, 20, 64, 48), not {box!r}"
            )
        x, y, w, h = numbers
        if x < 0 or y < 0 or x + w > image.width or y + h > image.height:
            raise ValueError(
                f"the box from ({x}, {y}) to ({x + w}, {y + h}) reaches out of the photo of {_size(image)} pixels"
            )
        hole[y : y + h, x : x + w] = 255
    return hole


def _margins(expand: Any, size: tuple[int, int]) -> list[int]:
    numbers = _whole_numbers(expand if isinstance(expand, Sequence) else [expand] * 4)
    if len(numbers) != 4 or min(numbers) < 0:
        raise ValueError(
            f"expand must be pixels to add, one number or left, top, right and bottom, not {expand!r}"
        )
    width, height = size[0] + numbers[0] + numbers[2], size[1] + numbers[1] + numbers[3]
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(
            f"expanded the photo would have {width} × {height} pixels, more than {Image.MAX_IMAGE_PIXELS:,}"
        )
    return numbers


def _whole_numbers(values: Any) -> list[int]:
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        return []


def _size(image: Image.Image) -> str:
    return f"{image.width} × {image.height}"
