"""Pictures where they lie, in folders or shards, and their vectors; unreadable ones are left out and reported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from .model import ClipModel

# fmt: off
PICTURE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff",
    ".webp",
})
# fmt: on


@dataclass(frozen=True)
class TarPicture:
    """A picture inside an uncompressed tar: its bytes are `size` from `offset` on."""

    shard: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"

    def read(self) -> bytes:
        """The picture file's bytes."""
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


Source = str | Path | TarPicture


def is_picture(name: str | os.PathLike) -> bool:
    """Whether a file is called like a picture; hidden files do not count (macOS writes `._a.jpg` by `a.jpg`)."""
    path = Path(name)
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def picture_among(parts: Iterable[str]) -> str | None:
    """Which part of a sample of a shard is its picture, by its extension; None: none is. PNG comes before others."""
    found = [part for part in parts if f".{part}" in PICTURE_SUFFIXES]
    return min(found, key=lambda part: part != "png", default=None)


def pictures_in(folder: str | os.PathLike) -> list[Path]:
    """The pictures that lie directly in a folder, by name. Raises FileNotFoundError if there is none."""
    found = sorted(path for path in Path(folder).iterdir() if is_picture(path) and path.is_file())
    if not found:
        raise FileNotFoundError(
            f"the folder {folder} holds no pictures; give one that does, or name the files"
        )
    return found


def try_open(source: Source | bytes) -> Image | str:
    """The picture, in its own mode, or why it cannot be read."""
    from PIL import UnidentifiedImageError

    from .preprocess import open_upright

    try:
        return open_upright(source.read() if isinstance(source, TarPicture) else source)
    except UnidentifiedImageError:
        return "not a picture"
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        return str(error)


@dataclass
class Embedded:
    """Vectors [N, D] (float32, length 1) of the pictures that could be read, and what became of the others.

    `kept` holds the numbers of those N among the sources; `skipped` pairs of number and sentence.
    """

    vectors: Tensor
    kept: list[int]
    skipped: list[tuple[int, str]] = field(default_factory=list)


def embed_sources(
    model: ClipModel, sources: Sequence[Source], batch_size: int = 32, progress: bool = False
) -> Embedded:
    """Vectors of pictures; those that cannot be read are skipped, each with its name and what is wrong.

    Raises ValueError if there are no sources, or none can be read (with what is wrong with the first).
    """
    from tqdm import tqdm

    if not sources:
        raise ValueError("there are no pictures; give at least one")
    kept: list[int] = []
    skipped: list[tuple[int, str]] = []

    def readable() -> Iterator[Image]:
        for number, source in enumerate(tqdm(sources, disable=not progress, desc="looking", unit="picture")):
            picture = try_open(source)
            if isinstance(picture, str):
                skipped.append((number, f"{source}: {picture.removeprefix(f'{source}: ')}"))
            else:
                kept.append(number)
                # Made small at once: a batch of photographs in full size would fill the memory.
                yield model.preprocess.fit(picture)

    vectors = model.embed_images(readable(), batch_size=batch_size)
    if not kept:
        others = f" (none of the {len(sources)} pictures can be read)" if len(sources) > 1 else ""
        raise ValueError(skipped[0][1] + others)
    return Embedded(vectors, kept, skipped)
