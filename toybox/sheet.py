"""Contact sheets: many pictures in one, in a tidy grid, with a caption under each."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MOST_PIXELS = 10**8
_GAP = 4
# Pixels of a side that smaller pictures are enlarged to.
_SIDE = 128
_PAPER, _INK = (255, 255, 255), (60, 60, 60)


def contact_sheet(
    images: Sequence[Image.Image | np.ndarray],
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    scale: int = 1,
) -> Image.Image:
    """One RGB picture of all `images` (PIL, or uint8 [H, W, 3]) in rows of `columns` (default: near square).

    `scale` enlarges each by a whole factor without blurring; `labels`, one per image, go under each, wrapped
    to its width. Raises ValueError for no images, a label too few or too many, or columns or scale under 1.
    """
    if not len(images):
        raise ValueError("a contact sheet needs at least one image, and there is none")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"a contact sheet needs one label per image, not {len(labels)} for {len(images)}")
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    if columns < 1 or scale < 1:
        raise ValueError(f"columns and scale must be at least 1, not {columns} and {scale}")
    pictures = [_enlarged(image, scale) for image in images]
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    width = max(picture.width for picture in pictures)
    height = max(picture.height for picture in pictures)

    font: Any = ImageFont.load_default(size=max(9, min(14, width // 9)))
    texts = [_wrapped(label, width, font) for label in labels] if labels is not None else []
    line = math.ceil(sum(font.getmetrics()))
    footer = max((text.count("\n") + 1 for text in texts), default=0) * line
    cell = (width + _GAP, height + footer + _GAP)

    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = _GAP + i % columns * cell[0], _GAP + i // columns * cell[1]
        sheet.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))
        if texts:
            for n, text in enumerate(texts[i].split("\n")):
                draw.text((x + width / 2, y + height + n * line), text, fill=_INK, font=font, anchor="ma")
    return sheet


def scene_sheet(split: str, count: int, size: int = 64, start: int = 0) -> Image.Image:
    """Contact sheet of scenes `start` … `start + count - 1` of a Toybox split, each over its caption.

    `size` is each picture's edge in px. Raises ValueError for an unknown split, a count under 1, or more than
    MOST_PIXELS.
    """
    if count < 1:
        raise ValueError(f"the number of scenes must be at least 1, not {count}")
    most = MOST_PIXELS // max(size, _SIDE) ** 2
    if count > most:
        raise ValueError(f"a sheet holds at most {most:,} scenes of {size} px, not {count:,}; ask for fewer")
    from .renderer import render
    from .scenes import make_scene

    scenes = [make_scene(split, index) for index in range(start, start + count)]
    return contact_sheet(
        [render(scene, size=size) for scene in scenes],
        labels=[scene.caption for scene in scenes],
        scale=scale_of(size),
    )


def scale_of(size: int) -> int:
    """By how much pictures of `size` px are enlarged on a sheet, so that there is something to see."""
    return max(1, _SIDE // size)


def _enlarged(image: Image.Image | np.ndarray, scale: int) -> Image.Image:
    picture = (Image.fromarray(image) if isinstance(image, np.ndarray) else image).convert("RGB")
    if scale == 1:
        return picture
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)
