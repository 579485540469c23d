"""Pictures with labels or captions to evaluate on: a folder of classes, or webdataset shards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..picture_sources import Source, TarPicture, is_picture, picture_among
from ..templates import check_labels

_TEXTS = ("cls", "json", "txt")


@dataclass(frozen=True)
class LabelledPictures:
    """`pictures`, and for each the number of its label in `labels`."""

    pictures: Sequence[Source]
    targets: Sequence[int]
    labels: tuple[str, ...]

    def take(self, numbers: Sequence[int]) -> LabelledPictures:
        """Some of the pictures, with all labels."""
        return replace(
            self,
            pictures=[self.pictures[i] for i in numbers],
            targets=[self.targets[i] for i in numbers],
        )


def read_labelled(data: str | os.PathLike, labels: Sequence[str] | None = None) -> LabelledPictures:
    """Pictures and their labels from a folder with one sub-folder for each class, or from shards.

    data: the folder, or shards ('test-{000..009}.tar', one tar, or a folder of tars) of a picture with `.cls` (a
    number or a word), a `.json` with "label", or a `.txt` beside it. labels: names in the order of the numbers, or of
    the sorted sub-folders; by default the sub-folders' or the shards' own words.
    Raises ValueError or FileNotFoundError in one sentence.
    """
    if os.path.isdir(data) and not any(Path(data).glob("[!.]*.tar")):
        return _of_folder(Path(data), labels)
    pictures, words = [], []
    for picture, texts in _samples(data):
        word = _label(texts)
        if word is None:
            raise ValueError(
                f'{picture} has no label; expected a .cls, a .json with "label" or a .txt beside it'
            )
        pictures.append(picture)
        words.append(word)
    return _numbered(pictures, words, labels, os.fspath(data))


def read_captioned(data: str | os.PathLike) -> tuple[list[Source], list[str]]:
    """Pictures and their captions (`.txt`) from shards. Raises ValueError or FileNotFoundError in one sentence."""
    if os.path.isdir(data) and not any(Path(data).glob("[!.]*.tar")):
        raise ValueError(
            f"{data} holds no shards; captions are read from tars of pictures with a .txt beside each"
        )
    pictures, captions = [], []
    for picture, texts in _samples(data):
        caption = _decoded(texts.get("txt", b"")).strip()
        if not caption:
            raise ValueError(f"{picture} has no caption; expected a .txt beside it")
        pictures.append(picture)
        captions.append(caption)
    return pictures, captions


def _of_folder(folder: Path, labels: Sequence[str] | None) -> LabelledPictures:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise ValueError(f"{folder} has no sub-folders; expected one for each class, with its pictures in it")
    if labels is not None and len(labels) != len(classes):
        raise ValueError(f"{folder} has {len(classes)} sub-folders, but there are {len(labels)} labels")
    called = [path.name.replace("_", " ") for path in classes]
    # Labels are the sub-folders' names, in any order, or their new names in the order of the old ones.
    names = tuple(labels) if labels is not None else check_labels(called)
    places = [names.index(name) for name in called] if set(names) == set(called) else range(len(called))
    pictures, targets = [], []
    for number, path in zip(places, classes, strict=True):
        inside = sorted(file for file in path.rglob("*") if is_picture(file) and file.is_file())
        pictures += inside
        targets += [number] * len(inside)
    if not pictures:
        raise FileNotFoundError(f"the sub-folders of {folder} hold no pictures")
    return LabelledPictures(pictures, targets, names)


def _numbered(
    pictures: list[Source], words: list[str], labels: Sequence[str] | None, data: str
) -> LabelledPictures:
    """Labels as numbers: either they are some, or each is one of `labels`, or they make the labels themselves."""
    if all(word.isdecimal() for word in words):
        targets = [int(word) for word in words]
        if labels is None:
            raise ValueError(f"the labels of {data} are numbers; give their names in that order, one a line")
        if max(targets) >= len(labels):
            raise ValueError(
                f"{data} has the label {max(targets)}, but the {len(labels)} names end at {len(labels) - 1}"
            )
        return LabelledPictures(pictures, targets, tuple(labels))
    names = tuple(labels) if labels is not None else check_labels(sorted(set(words)))
    numbers = {name: number for number, name in reversed(list(enumerate(names)))}
    if unknown := next((word for word in words if word not in numbers), None):
        raise ValueError(f"{data} has the label {unknown!r:.60}, which is not among the {len(names)} given")
    return LabelledPictures(pictures, [numbers[word] for word in words], names)


def _label(texts: dict[str, bytes]) -> str | None:
    if "cls" in texts:
        word = _decoded(texts["cls"])
    elif "json" in texts and (found := _json_label(texts["json"])) is not None:
        word = found
    else:
        word = _decoded(texts.get("txt", b""))
    return " ".join(word.split()) or None


def _json_label(content: bytes) -> str | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    label = found.get("label") if isinstance(found, dict) else None
    return None if label is None else str(label)


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _samples(data: str | os.PathLike) -> Iterator[tuple[TarPicture, dict[str, bytes]]]:
    """Each picture of the shards with the texts beside it, by extension; the pictures are not read."""
    if not os.path.exists(data) and "{" not in os.fspath(data):  # said before torch is imported
        raise FileNotFoundError(f"there is no shard or folder {data}")
    from ...training.shards import Shards

    shards = Shards(data)
    samples = [(sample, kind) for sample in shards.samples if (kind := picture_among(sample.parts))]
    if not samples:
        raise ValueError(f"{data} holds no pictures (files named KEY.png, KEY.jpg, …)")
    for sample, shown in samples:
        parts = {
            kind: TarPicture(sample.shard, f"{sample.key}.{kind}", *sample.parts[kind])
            for kind in sample.parts
        }
        yield parts[shown], {kind: parts[kind].read() for kind in _TEXTS if kind in parts}
