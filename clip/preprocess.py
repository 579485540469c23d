"""Pictures for CLIP: any file as an upright RGB picture, and a picture as the pixels that an encoder expects."""

import io
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.Image import Resampling, Transpose

# Of red, green and blue in [0, 1].
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_INTERPOLATIONS = {"bicubic": Resampling.BICUBIC, "bilinear": Resampling.BILINEAR}
_RESIZE_MODES = ("shortest", "squash", "longest")
# A picture a pixel high and millions wide, made 224 high, would fill any memory; beyond this only what is kept is made.
_LARGEST_RESIZED = 1 << 25
# Formats that Pillow hands to another program.
_PROGRAMS = {"EPS", "WMF"}
# EXIF's orientation -> what sets it upright.
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


Kind = TypeVar("Kind", bound="Preprocess")


@dataclass(frozen=True)
class Preprocess:
    """A PIL picture -> normalised pixels, float32 [3, size, size].

    size: in pixels. mean, std: of red, green and blue in [0, 1]. interpolation: "bicubic" or "bilinear". resize_mode:
    "shortest" fits the shorter side and crops the centre, "squash" ignores the proportions, "longest" fits the longer
    side on black. The numbers are those of torchvision's Resize, CenterCrop, ToTensor and Normalize on a PIL picture.
    Raises ValueError for other values. Source: github.com/openai/CLIP, and open_clip's transform.py for the modes.
    """

    size: int
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {', '.join(_INTERPOLATIONS)}, got {self.interpolation!r}"
            )
        if self.resize_mode not in _RESIZE_MODES:
            raise ValueError(
                f"resize_mode must be one of {', '.join(_RESIZE_MODES)}, got {self.resize_mode!r}"
            )

    @classmethod
    def from_config(cls: type[Kind], config: Mapping) -> Kind:
        """What the config of a `ClipEncoder` says of its pictures."""
        return cls(
            config["image_resolution"],
            tuple(config.get("image_mean") or OPENAI_MEAN),
            tuple(config.get("image_std") or OPENAI_STD),
            config.get("interpolation") or "bicubic",
            config.get("resize_mode") or "shortest",
        )

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """The pixels of a picture of any mode, as it lies in memory: `open_picture` is what minds EXIF's rotation.

        Raises ValueError if it is no PIL picture or has no pixels.
        """
        if not isinstance(picture, Image.Image):
            raise ValueError(f"expected a PIL picture, got {type(picture).__name__}; see open_picture")
        if not picture.width * picture.height:
            raise ValueError(f"the picture has no pixels, its size is {picture.width} × {picture.height}")
        pixels = np.array(self.fit(picture))  # a copy: torch wants it writable
        pixels = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return pixels.sub_(mean).div_(std)

    def fit(self, picture: Image.Image) -> Image.Image:
        """The picture as RGB, resized and cropped, or padded, to `size` × `size`."""
        return self._cropped(to_rgb(picture))

    def _cropped(self, picture: Image.Image) -> Image.Image:
        width, height = self._resized(*picture.size)
        left, top = _margin(width, self.size), _margin(height, self.size)
        resample = _INTERPOLATIONS[self.interpolation]
        if width * height > _LARGEST_RESIZED:
            x, y = picture.width / width, picture.height / height
            box = (left * x, top * y, (left + self.size) * x, (top + self.size) * y)
            return picture.resize((self.size, self.size), resample, box)
        if picture.size != (width, height):
            picture = picture.resize((width, height), resample)
        # Outside of the picture crop gives black.
        return picture.crop((left, top, left + self.size, top + self.size))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        size, short, long = self.size, min(width, height), max(width, height)
        if self.resize_mode == "squash":
            return size, size
        if self.resize_mode == "longest":
            ratio = long / size
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        fitted = int(size * long / short)
        return (size, fitted) if width <= height else (fitted, size)


def _margin(length: int, size: int) -> int:
    # What is cut before the middle, or, negative, added; halves are rounded as torchvision rounds them.
    return round((length - size) / 2) if length >= size else -((size - length) // 2)


def open_picture(source: str | os.PathLike | bytes | IO[bytes]) -> Image.Image:
    """The picture in a file, an open file or the bytes of one: RGB, upright as its EXIF says, transparency over white.

    Of an animation it is the first frame; 16 bits become 8. Raises FileNotFoundError, or ValueError for what is no
    picture, is damaged, or has more pixels than PIL.Image.MAX_IMAGE_PIXELS (a decompression bomb).
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"the picture {path} does not exist")
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; give a picture in it")
        with path.open("rb") as file:
            return _open(file, str(path))
    if isinstance(source, bytes):
        return _open(io.BytesIO(source), "the picture")
    return _open(source, str(getattr(source, "name", "the picture")))


def _open(file: IO[bytes], name: str) -> Image.Image:
    Image.init()
    try:
        with warnings.catch_warnings():
            # Refused below, and not only warned of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(file, formats=[format for format in Image.ID if format not in _PROGRAMS])
        with picture:
            largest = Image.MAX_IMAGE_PIXELS
            if largest and picture.width * picture.height > largest:
                raise Image.DecompressionBombError(f"{picture.width} × {picture.height}")
            picture.load()
            upright = _UPRIGHT.get(_orientation(picture) or 1)
            rgb = to_rgb(picture)
            return rgb.transpose(upright) if upright is not None else rgb.copy()
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture; expected a PNG, JPEG, WebP, GIF or the like") from None
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{name} is refused: it has more than {Image.MAX_IMAGE_PIXELS:,} pixels ({error}); make it smaller"
        ) from None
    except Exception as error:  # on damaged files the decoders raise nearly anything
        if isinstance(error, OSError) and error.errno:
            raise  # the disc, not the picture
        raise ValueError(f"{name} is damaged or cut short ({error}); get it again") from error


def _orientation(picture: Image.Image) -> int | None:
    try:
        return picture.getexif().get(0x0112)
    except Exception:  # a picture is not the worse for a damaged note about it
        return None


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, transparency over white."""
    picture = to_8_bits(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def to_8_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16 or 32 bits scaled to 8, which Pillow's `convert` would clip; any other as it is."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.nan_to_num(np.array(picture).astype(np.float32))
    # Mode "I", of 32 bits, is what Pillow reads some 16-bit files as. Nothing says what white is in a picture of
    # floats: 1 where nothing is brighter, else 255.
    white = 65535 if picture.mode != "F" else 1 if values.max() <= 1 else 255
    grey = Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8))
    key = picture.info.get("transparency")
    if key is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey
