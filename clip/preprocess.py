"""Pictures for CLIP: any file as an upright RGB picture, and a picture as the pixels that an encoder expects."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from torch import Tensor

Picture = Image.Image | str | os.PathLike  # a picture, or the path of one

# Of red, green and blue in [0, 1].
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_INTERPOLATIONS = ("bicubic", "bilinear")
_RESIZE_MODES = ("shortest", "squash", "longest")
# A picture longer than so many times its short side is cut to its middle before it is resized: a picture one pixel
# high and millions wide would fill the memory when its height becomes 224.
_LONGEST = 512
# Formats that Pillow hands to another program.
_PROGRAMS = {"EPS", "WMF"}


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
    def from_config(cls, config: Mapping) -> "Preprocess":
        """What the config of a `ClipEncoder` says of its pictures."""
        return cls(
            config["image_resolution"],
            tuple(config.get("image_mean") or OPENAI_MEAN),
            tuple(config.get("image_std") or OPENAI_STD),
            config.get("interpolation") or "bicubic",
            config.get("resize_mode") or "shortest",
        )

    def __call__(self, picture: Picture) -> "Tensor":
        """The pixels of a picture of any mode; a PIL picture is not turned as its EXIF says, that of a path is.

        Raises ValueError if it has no pixels, and what `picture_of` raises.
        """
        from torchvision.transforms.functional import normalize, to_tensor

        picture = picture_of(picture)
        if not picture.width * picture.height:
            raise ValueError(f"the picture has no pixels, its size is {picture.width} × {picture.height}")
        return normalize(to_tensor(self.fit(picture)), list(self.mean), list(self.std), inplace=True)

    def fit(self, picture: Image.Image) -> Image.Image:
        """The picture resized and cropped, or padded, to `size` × `size`, then as RGB.

        In this order, as in open_clip and in OpenAI's code: it makes a difference to colours other than RGB's. Where
        these lose something it is first made RGB: transparency goes over white, and 16 bits become 8.
        """
        from torchvision.transforms import CenterCrop, InterpolationMode, Resize

        picture = opaque(picture)
        width, height = picture.size
        longest = _LONGEST * min(width, height)
        shape: int | tuple[int, int] = self.size
        if self.resize_mode == "squash":
            shape = self.size, self.size
        elif self.resize_mode == "longest":
            ratio = max(width, height) / self.size
            shape = max(1, round(height / ratio)), max(1, round(width / ratio))
        elif max(width, height) > longest:
            picture = CenterCrop((min(height, longest), min(width, longest)))(picture)
        # Where the picture is smaller than the crop, the crop adds black.
        cropped = CenterCrop(self.size)(Resize(shape, InterpolationMode(self.interpolation))(picture))
        return cropped.convert("RGB")


def picture_of(picture: Picture) -> Image.Image:
    """A PIL picture as it is, or that of a path. Raises TypeError for anything else, and what `open_upright` raises."""
    if isinstance(picture, (str, os.PathLike)):
        return open_upright(picture)
    if not isinstance(picture, Image.Image):
        raise TypeError(
            f"expected a PIL picture or a path, got {type(picture).__name__}; PIL.Image.fromarray makes one of an array"
        )
    return picture


def pictures_of(pictures: Picture | Iterable[Picture]) -> Iterator[Image.Image]:
    """One picture or several, each as `picture_of` takes it, opened one after the other."""
    if isinstance(pictures, Iterable) and not isinstance(pictures, str):
        return map(picture_of, pictures)
    return iter([picture_of(pictures)])


def open_picture(source: str | os.PathLike | bytes | IO[bytes]) -> Image.Image:
    """The picture in a file, an open file or the bytes of one: RGB, upright as its EXIF says, transparency over white.

    Raises what `open_upright` raises.
    """
    return to_rgb(open_upright(source))


def open_upright(source: str | os.PathLike | bytes | IO[bytes]) -> Image.Image:
    """The picture in a file, an open file or the bytes of one, in its own mode, upright as its EXIF says.

    Of an animation it is the first frame. Raises PIL.UnidentifiedImageError for what is no picture, ValueError for a
    pipe, for more than PIL.Image.MAX_IMAGE_PIXELS (a decompression bomb) and for a damaged file, which it names, and
    OSError for none; for damaged bytes it is what Pillow raises, nearly anything.
    """
    # Reading a pipe would wait for whoever is to write it.
    if isinstance(source, (str, os.PathLike)) and Path(source).is_fifo():
        raise ValueError(f"{os.fspath(source)} is a pipe; give a picture file")
    Image.init()
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return _read(file)
    except UnidentifiedImageError:
        if isinstance(source, (str, os.PathLike)):
            raise  # it names the file
        raise UnidentifiedImageError("cannot identify what the picture's file holds") from None
    except (FileNotFoundError, PermissionError, IsADirectoryError, MemoryError):
        raise  # Pillow and Python name the file themselves
    except Exception as error:
        if not isinstance(source, (str, os.PathLike)):
            raise
        raise ValueError(f"{os.fspath(source)}: {error}") from error


def _read(file: str | os.PathLike | IO[bytes]) -> Image.Image:
    with Image.open(file, formats=[format for format in Image.ID if format not in _PROGRAMS]) as picture:
        largest = Image.MAX_IMAGE_PIXELS
        if largest and picture.width * picture.height > largest:
            raise ValueError(
                f"the picture has {picture.width} × {picture.height} pixels, more than {largest:,}; make it smaller"
            )
        picture.load()
        return upright(picture)


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says."""
    # Pillow raises nearly anything on damaged EXIF, which does not spoil the picture.
    with suppress(Exception):
        return ImageOps.exif_transpose(picture)
    return picture


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, transparency over white; 16 bits become 8."""
    picture = opaque(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def opaque(picture: Image.Image) -> Image.Image:
    """A picture with transparency as RGB over white, one of 16 or 32 bits in 8; any other as it is."""
    picture = to_8_bits(picture)
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def to_8_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16 or 32 bits scaled to 8, which Pillow's `convert` would clip; any other as it is."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.nan_to_num(np.array(picture).astype(np.float32))
    # Mode "I", of 32 bits, is what Pillow reads some 16-bit files as, and what arrays of whole numbers become, which no
    # file has. Nothing says what white is in these or in a picture of floats: 1 or 255 where nothing is brighter.
    if picture.mode == "F":
        white = 1 if values.max() <= 1 else 255
    else:
        of_8_bits = picture.mode == "I" and picture.format is None and values.max() <= 255
        white = 255 if of_8_bits else 65535
    grey = Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8))
    key = picture.info.get("transparency")
    if key is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey
