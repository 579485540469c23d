"""A photo with a hole to be painted: what a mask says, the square around the hole, and its way back into the photo."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from ..clip.preprocess import Picture, picture_of, to_8_bits, to_rgb, upright

SMALLEST = 64
# A mask stored as a JPEG is nowhere quite black or white.
NEARLY = 8


@dataclass(frozen=True)
class MaskedPhoto:
    """picture: RGB. known: L, of its size, 255 where its pixels stay, 0 where they are painted anew, or between.

    hole: (left, top, right, bottom) of all that does not stay.
    """

    picture: Image.Image
    known: Image.Image
    hole: tuple[int, int, int, int]


@dataclass(frozen=True)
class Square:
    """A square part of a photo, from its pixel (left, top) on. What lies past the photo's edges is not known.

    picture: RGB, with the nearest known pixel's colour where nothing is known. weight: L, what the paint counts: 0 at
    every known pixel, rising to 255 away from them.
    """

    left: int
    top: int
    picture: Image.Image
    weight: Image.Image


def mask_photo(
    image: Picture,
    mask: Picture | None = None,
    box: Sequence[int] | None = None,
    expand: int | Sequence[int] = 0,
) -> MaskedPhoto:
    """A photo of any mode, turned as its EXIF says, with what is to be painted anew.

    mask: a picture of the photo's proportions and of any mode, white (or transparent) where to paint, black where the
    photo stays, grey where both are mixed. box: (x, y, width, height) in the photo's pixels instead of a mask. With
    neither the photo's transparent pixels are painted. expand: how many pixels to add and paint on the left, top,
    right and bottom, or one number for all four. Raises ValueError or TypeError.
    """
    image = upright(picture_of(image))
    if min(image.size) < SMALLEST:
        raise ValueError(f"the photo has {_size(image)} pixels; each side must have at least {SMALLEST}")
    if mask is not None and box is not None:
        raise ValueError("both a mask and a box were given; give one of them")
    left, top, right, bottom = _margins(expand, image)
    picture, known = to_rgb(image), Image.new("L", image.size, 255)
    if mask is not None:
        known = _outside_mask(picture_of(mask), image)
    elif box is not None:
        known.paste(0, _corners(box, image))
    elif image.has_transparency_data:
        transparent = to_8_bits(image).convert("RGBA")
        picture, known = transparent.convert("RGB"), transparent.getchannel("A")
    known = known.point([0 if v <= NEARLY else 255 if v >= 255 - NEARLY else v for v in range(256)])
    whole = (-left, -top, image.width + right, image.height + bottom)
    picture, known = picture.crop(whole), known.crop(whole)
    hole = ImageChops.invert(known).getbbox()
    if hole is None:
        raise ValueError(
            "nothing says what to paint: give a mask that is white there, or a box, expand the photo, or make "
            "that part of it transparent"
        )
    if known.getextrema()[1] != 255:
        raise ValueError(
            "nothing of the photo would stay; a mask must be black, and a photo without one opaque, where it is to stay"
        )
    return MaskedPhoto(picture, known, hole)


def cut_square(photo: MaskedPhoto, least: int) -> Square:
    """The square in which to paint a photo's hole, with known pixels beside it.

    least: the pixels of a side that the networks make: a smaller square would gain nothing.
    """
    from scipy.ndimage import distance_transform_cdt

    left, top, side = square_around(photo.hole, photo.picture.size, least)
    # Past the photo's edges a crop is 0: not known.
    corners = (left, top, left + side, top + side)
    known, pixels = np.asarray(photo.known.crop(corners)), np.array(photo.picture.crop(corners))
    distances: Any = distance_transform_cdt(known < 255, return_indices=True)
    distance, nearest = distances
    # What was in the hole must show neither to the networks nor in the seam, which is a base network's pixel wide.
    pixels[known == 0] = pixels[tuple(nearest[:, known == 0])]
    seam = max(1, round(side / SMALLEST))
    weight = np.minimum(255 - known, distance * 255 // (seam + 1)).astype(np.uint8)
    return Square(left, top, Image.fromarray(pixels), Image.fromarray(weight))


def square_around(hole: tuple[int, int, int, int], size: tuple[int, int], least: int) -> tuple[int, int, int]:
    """(left, top, side) of a square around a hole (left, top, right, bottom) in a photo of `size` (width, height).

    The hole's longer side is at most half the square's, as far as the photo's shorter side goes, and at most two thirds
    as far as its longer one does. The square lies within the photo where it fits, and in its middle where it does not.
    """
    longest = max(hole[2] - hole[0], hole[3] - hole[1])
    side = min(max(least, 2 * longest), max(min(size), -(-3 * longest // 2)), max(size))
    left, top = (
        (length - side) // 2 if side > length else min(max((low + high - side) // 2, 0), length - side)
        for low, high, length in zip(hole[:2], hole[2:], size, strict=True)
    )
    return left, top, side


def paste(photo: MaskedPhoto, square: Square, painted: Image.Image) -> Image.Image:
    """The photo with a painted square, of any size, in its hole; every known pixel is the photo's own, bit for bit."""
    painted = painted.resize(square.picture.size, Image.Resampling.BICUBIC)
    picture = photo.picture.copy()
    picture.paste(Image.composite(painted, square.picture, square.weight), (square.left, square.top))
    return picture


def _outside_mask(mask: Image.Image, image: Image.Image) -> Image.Image:
    mask = to_rgb(upright(mask)).convert("L")
    # A smaller copy of the photo is rounded to whole pixels.
    if abs(mask.width * image.height - mask.height * image.width) > max(image.size):
        raise ValueError(
            f"the mask has {_size(mask)} pixels and the photo {_size(image)}; their proportions must be the same"
        )
    return ImageChops.invert(mask.resize(image.size, Image.Resampling.BILINEAR))


def _corners(box: Sequence[int], image: Image.Image) -> tuple[int, int, int, int]:
    numbers = _whole_numbers(box)
    if len(numbers) != 4 or min(numbers[2:]) < 1:
        raise ValueError(
            f"a box is x, y, width and height in whole pixels, such as (10, 20, 64, 48), not {box!r}"
        )
    left, top, right, bottom = *numbers[:2], numbers[0] + numbers[2], numbers[1] + numbers[3]
    if left < 0 or top < 0 or right > image.width or bottom > image.height:
        raise ValueError(
            f"the box from ({left}, {top}) to ({right}, {bottom}) reaches out of the photo of {_size(image)} pixels"
        )
    return left, top, right, bottom


def _margins(expand: int | Sequence[int], image: Image.Image) -> list[int]:
    numbers = _whole_numbers(expand if isinstance(expand, Sequence) else [expand] * 4)
    if len(numbers) != 4 or min(numbers) < 0:
        raise ValueError(
            f"expand must be pixels to add, one number or left, top, right and bottom, not {expand!r}"
        )
    width, height = image.width + numbers[0] + numbers[2], image.height + numbers[1] + numbers[3]
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
