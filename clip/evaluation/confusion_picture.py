"""What is taken for what, as a picture: rows are what it is, columns what it was called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Up to so many classes each is named and counted; beyond, the whole is a map of about 1,000 px.
NAMED = 50
_MAP = 1000
_MARGIN, _LONGEST = 16, 180
_PAPER, _INK, _FAINT = (255, 255, 255), (40, 40, 40), (214, 214, 214)
_FULL = np.array([8, 48, 107])


def confusion_picture(confusion: np.ndarray, labels: Sequence[str], title: str = "") -> Image.Image:
    """An RGB picture of a confusion [C, C] (rows: true labels, columns: given ones), each row shaded by its shares.

    Up to 50 classes carry their names and counts; more are drawn as a map without words, several to a pixel past 1,000.
    Raises ValueError if the sizes do not fit or there are no labels.
    """
    confusion = np.asarray(confusion)
    if not len(labels) or confusion.shape != (len(labels), len(labels)):
        raise ValueError(
            f"a confusion of {len(labels)} labels must be a square of them, not {confusion.shape}"
        )
    font: Any = ImageFont.load_default(size=13)
    title = title or "rows: what it is; columns: what it was called"
    if len(labels) > NAMED:
        return _with_title(_coarse(confusion), f"{title} ({len(labels)} classes)", font)
    return _with_title(_table(confusion, labels, font), title, font)


def _table(confusion: np.ndarray, labels: Sequence[str], font: Any) -> Image.Image:
    cell = max(24, int(font.getlength(str(confusion.max()))) + 8)
    names = [_shortened(label, font) for label in labels]
    side = int(max(font.getlength(name) for name in names)) + 8
    edge = side + cell * len(labels) + 1
    picture = Image.new("RGB", (edge, edge), _PAPER)
    draw = ImageDraw.Draw(picture)
    shares = _shares(confusion)
    for i, name in enumerate(names):
        middle = side + i * cell + cell // 2
        draw.text((side - 4, middle), name, fill=_INK, font=font, anchor="rm")
        upright = Image.new("RGB", (side - 4, cell), _PAPER)
        ImageDraw.Draw(upright).text((0, cell // 2), name, fill=_INK, font=font, anchor="lm")
        picture.paste(upright.rotate(90, expand=True), (side + i * cell, 0))
        for j, share in enumerate(shares[i]):
            x, y = side + j * cell, side + i * cell
            draw.rectangle((x, y, x + cell, y + cell), fill=_colour(share), outline=_FAINT)
            if confusion[i, j]:
                ink = _PAPER if share > 0.5 else _INK
                draw.text(
                    (x + cell // 2, y + cell // 2), str(confusion[i, j]), fill=ink, font=font, anchor="mm"
                )
    return picture


def _coarse(confusion: np.ndarray) -> Image.Image:
    """A map of squares; where classes share a pixel, it shows their mean."""
    bins = -(-len(confusion) // _MAP)
    shares = _shares(confusion)
    if bins > 1:
        starts = np.arange(0, len(shares), bins)
        sizes = np.diff(starts, append=len(shares))
        # Summed over what a row is called, meant over the rows, so that a perfect diagonal stays dark.
        shares = np.add.reduceat(np.add.reduceat(shares, starts, 0), starts, 1) / sizes[:, None]
    scale = max(1, _MAP // len(shares))
    # A faint share would be lost among a thousand columns; the root keeps it visible.
    shade = np.sqrt(shares)[..., None]
    pixels = (255 - (255 - _FULL) * shade).round().astype(np.uint8)
    return Image.fromarray(pixels.repeat(scale, 0).repeat(scale, 1))


def _shares(confusion: np.ndarray) -> np.ndarray:
    return confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)


def _colour(share: float) -> tuple[int, int, int]:
    red, green, blue = (255 - (255 - _FULL) * share).round().astype(int).tolist()
    return red, green, blue


def _shortened(label: str, font: Any) -> str:
    if font.getlength(label) <= _LONGEST:
        return label
    while font.getlength(label + "…") > _LONGEST:
        label = label[:-1]
    return label + "…"


def _with_title(picture: Image.Image, title: str, font: Any) -> Image.Image:
    line = sum(font.getmetrics()) + _MARGIN // 2
    width = max(picture.width, int(font.getlength(title))) + 2 * _MARGIN
    sheet = Image.new("RGB", (width, picture.height + line + 2 * _MARGIN), _PAPER)
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN // 2), title, fill=_INK, font=font)
    sheet.paste(picture, (_MARGIN, line + _MARGIN))
    return sheet
