"""What is taken for what, as a picture: rows are what it is, columns what it was called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Up to so many classes each is named and counted; beyond, the whole is a map of about 1,000 px.
NAMED = 50
_MAP = 1000
_MARGIN, _LONGEST = 16, 24
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
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    if len(labels) > NAMED:
        title += f" ({len(labels)} classes)"
        picture = _map(shares)
    else:
        picture = _table(confusion, shares, labels, font)
    line = sum(font.getmetrics()) + _MARGIN // 2
    width = max(picture.width, int(font.getlength(title))) + 2 * _MARGIN
    sheet = Image.new("RGB", (width, picture.height + line + 2 * _MARGIN), _PAPER)
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN // 2), title, fill=_INK, font=font)
    sheet.paste(picture, (_MARGIN, line + _MARGIN))
    return sheet


def _table(confusion: np.ndarray, shares: np.ndarray, labels: Sequence[str], font: Any) -> Image.Image:
    """A cell for each pair of classes with its count; the names stand at the left and, upright, above."""
    cell = max(24, int(font.getlength(str(confusion.max()))) + 8)
    names = [label if len(label) <= _LONGEST else f"{label[:_LONGEST]}…" for label in labels]
    side = int(max(font.getlength(name) for name in names)) + 8
    edge = side + cell * len(labels) + 1
    picture = Image.new("RGB", (edge, edge), _PAPER)
    draw = ImageDraw.Draw(picture)
    colours = _colours(shares)
    for i, name in enumerate(names):
        draw.text((side - 4, side + i * cell + cell // 2), name, fill=_INK, font=font, anchor="rm")
        upright = Image.new("RGB", (side - 4, cell), _PAPER)
        ImageDraw.Draw(upright).text((0, cell // 2), name, fill=_INK, font=font, anchor="lm")
        picture.paste(upright.rotate(90, expand=True), (side + i * cell, 0))
        for j, count in enumerate(confusion[i]):
            x, y = side + j * cell, side + i * cell
            draw.rectangle((x, y, x + cell, y + cell), fill=tuple(colours[i, j].tolist()), outline=_FAINT)
            if count:
                ink = _PAPER if shares[i, j] > 0.5 else _INK
                draw.text((x + cell // 2, y + cell // 2), str(count), fill=ink, font=font, anchor="mm")
    return picture


def _map(shares: np.ndarray) -> Image.Image:
    """A square of pixels for each pair of classes; where classes share a pixel, it shows their rows' mean."""
    count = len(shares)
    scale = _MAP // count
    if not scale:
        mean = Image.fromarray(shares.astype(np.float32)).resize((_MAP, _MAP), Image.Resampling.BOX)
        # The columns are summed and not averaged, so that a perfect diagonal stays dark.
        shares, scale = np.asarray(mean) * (count / _MAP), 1
    # A faint share would be lost among a thousand columns; the root keeps it visible.
    return Image.fromarray(_colours(np.sqrt(shares.clip(0, 1))).repeat(scale, 0).repeat(scale, 1))


def _colours(shares: np.ndarray) -> np.ndarray:
    return (255 - (255 - _FULL) * shares[..., None]).round().astype(np.uint8)
