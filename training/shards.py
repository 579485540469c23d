"""Webdataset shards, read by position: tar headers are scanned once, then any sample is one seek away."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from braceexpand import braceexpand
from webdataset.tariterators import base_plus_ext

MOST_SHARDS = 1_000_000
SUM = "sha256"  # a part of a sample that says what the others are


class Sample(NamedTuple):
    """Where a sample lies: `parts` maps each extension (lower case) to the offset and the size of its bytes."""

    shard: str
    key: str
    parts: dict[str, tuple[int, int]]


class Shards:
    """The samples of local webdataset shards, by number.

    `shards` is a shard, a folder of shards, a pattern with braces that names several of either (`data/{toybox,pairs}`,
    `shard-{000..099}.tar`), or a list of them. `shards[i]` is a dict of the raw bytes by extension, with `__key__` and
    `__url__` (the shard) as in webdataset; `samples[i]` says where they lie.
    Raises FileNotFoundError naming a missing shard and ValueError naming a damaged or an empty one, or for braces that
    name more than a million; on reading, ValueError for a sample that is not what `add_sample` wrote.
    """

    def __init__(self, shards: str | os.PathLike | Sequence[str | os.PathLike]):
        single = isinstance(shards, (str, os.PathLike))
        places = [os.fspath(shards)] if single else [os.fspath(path) for path in shards]
        if single and not os.path.exists(shards):
            places = _named(places[0])
        self.paths = [path for place in places for path in _shards_at(place)]
        self.samples = [sample for path in self.paths for sample in _scan(path)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> dict[str, Any]:
        shard, key, parts = self.samples[number]
        content: dict[str, Any] = {"__key__": key, "__url__": shard}
        with open(shard, "rb") as file:
            for extension, (offset, size) in parts.items():
                file.seek(offset)
                content[extension] = file.read(size)
        expected = content.pop(SUM, None)
        if expected is not None and expected.decode(errors="replace").strip() != _digest(key, content):
            raise ValueError(
                f"sample {key} of {shard} cannot be read: it is not what was written, as its SHA-256 tells; write it "
                "again"
            )
        return content

    def fingerprint(self) -> str:
        """A digest of all keys and sizes in order, and of the SHA-256s that samples have: equal at another place."""
        digest = hashlib.sha256()
        for shard, samples in groupby(self.samples, key=attrgetter("shard")):
            with open(shard, "rb") as file:
                for _, key, parts in samples:
                    sizes = sorted((extension, size) for extension, (_, size) in parts.items())
                    digest.update(f"{key} {sizes}\n".encode())
                    if SUM in parts:
                        file.seek(parts[SUM][0])
                        digest.update(file.read(parts[SUM][1]))
        return digest.hexdigest()[:16]


def add_sample(tar: tarfile.TarFile, key: str, parts: Mapping[str, bytes]) -> None:
    """Write a sample into a shard: its parts by extension, and the SHA-256 of them all, which reading checks."""
    for extension, content in {**parts, SUM: _digest(key, parts).encode()}.items():
        entry = tarfile.TarInfo(f"{key}.{extension}")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def _digest(key: str, parts: Mapping[str, Any]) -> str:
    """Of all parts of a sample but those that begin with __, in the order of their names."""
    digest = hashlib.sha256(key.encode())
    for extension in sorted(name for name in parts if not name.startswith("__")):
        digest.update(f"\n{extension} {len(parts[extension])}\n".encode())
        digest.update(parts[extension])
    return digest.hexdigest()


def _named(pattern: str) -> list[str]:
    """The paths that the braces of a pattern name. Raises ValueError for more than MOST_SHARDS."""
    # braceexpand makes the whole of a range at once, of several ranges one path after another.
    ranges = re.findall(r"{(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?}", pattern)
    longest = max(
        (abs(int(last) - int(first)) // (int(step or 1) or 1) for first, last, step in ranges), default=0
    )
    named = (
        list(islice(braceexpand(pattern, escape=False), MOST_SHARDS + 1)) if longest <= MOST_SHARDS else []
    )
    if not 0 < len(named) <= MOST_SHARDS:
        raise ValueError(
            f"the braces of {pattern:.80} name more than {MOST_SHARDS:,} shards; name those that exist"
        )
    return named


def tars_in(folder: str | os.PathLike) -> list[str]:
    """The paths of a folder's tars, in the order of their names."""
    return sorted(str(path) for path in Path(folder).glob("*.tar") if not path.name.startswith("."))


def _shards_at(place: str) -> list[str]:
    if os.path.isfile(place):
        return [place]
    if not os.path.isdir(place):
        raise FileNotFoundError(f"there is no shard or folder {place}")
    if found := tars_in(place):
        return found
    raise FileNotFoundError(
        f"the folder {place} holds no shards; of pictures and captions, KEY.png and KEY.txt, one is made by "
        "tar -cf pictures.tar -C FOLDER ."
    )


def _scan(path: str) -> list[Sample]:
    samples: dict[str, Sample] = {}
    name = None
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                name = member.name
                key, extension = base_plus_ext(name)
                if member.isfile() and key and extension:
                    sample = samples.setdefault(key, Sample(path, key, {}))
                    if extension.lower() in sample.parts:
                        raise tarfile.ReadError("there are two files of this name")
                    sample.parts[extension.lower()] = (member.offset_data, member.size)
            # A whole archive ends with zeros; tarfile itself accepts one that was cut between two members.
            file.seek(tar.offset)
            if file.read(512) != bytes(512):
                raise tarfile.ReadError("the archive ends too early")
    except (tarfile.TarError, EOFError) as error:
        if name is None:
            raise ValueError(
                f"{path} is damaged or no tar archive: {error}; shards are plain tars of files KEY.EXTENSION"
            ) from error
        raise ValueError(f"the shard {path} is damaged at {name}: {error}; write it again") from error
    if not samples:
        raise ValueError(f"the shard {path} holds no samples (files named KEY.EXTENSION)")
    return list(samples.values())
