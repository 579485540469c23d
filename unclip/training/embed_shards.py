"""CLIP's vectors of pictures, computed once and kept in shards beside the pictures."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ...clip.model import ClipModel
from ...clip.picture_sources import is_picture, picture_among
from ...diffusion.training.clip_conditions import BATCH, CACHED, SAME, pixels_of
from ...training import Shards
from ...training.shards import add_sample
from ...weights.noted import noted
from ...weights.write_whole import write_whole


def embed_shards(data: str, out: Path, model: str = "mini") -> list[Path]:
    """Write each of the shards `data` again in `out`, with CLIP's vector of each picture as KEY.clip.npy.

    model: what ClipModel.from_pretrained takes. The vectors are float32 [dim], unnormalised, as unCLIP's networks take
    them. Shards of several folders go into folders of the same names. What this CLIP made of the same samples is kept,
    so that a stopped call can be made again; each shard is whole or absent. Returns the paths of all.
    Raises what Shards and ClipModel raise, ValueError for a sample without a picture or shards that would be written
    over, all before anything is embedded, and what Pillow does for a picture that cannot be read, with a note on which.
    """
    shards = Shards(data)
    found = {path: Path(path).resolve() for path in shards.paths}
    above = os.path.commonpath([path.parent for path in found.values()])
    paths = {path: out / place.relative_to(above) for path, place in found.items()}
    if above == os.fspath(out.resolve()):
        raise ValueError(f"the shards lie in {out} and would be written over; give another folder with --out")
    for sample in shards.samples:
        if picture_among(sample.parts) is None:
            dotted = [part for part in sample.parts if is_picture(f"{sample.key}.{part}")]
            hint = f" but {dotted[0]}; a picture's name must have no other dot" if dotted else ""
            raise ValueError(f"sample {sample.key} of {sample.shard} has no picture (.png, .jpg, …){hint}")
    numbers: dict[str, list[int]] = {path: [] for path in shards.paths}
    for number, sample in enumerate(shards.samples):
        numbers[sample.shard].append(number)
    clip = ClipModel.from_pretrained(model)
    kept = [path for path, target in paths.items() if target.exists()]
    for path in tqdm(kept, unit="shard", desc="comparing", disable=not kept):
        target, before = paths[path], Shards(paths[path])
        if not _is_of(clip, before[0]):
            raise ValueError(
                f"{target} has the vectors of another CLIP than {model}; give another folder with --out"
            )
        if not _same(before, shards, numbers[path]):
            raise ValueError(
                f"{target} was made of other samples than {path} holds; delete it, or give another folder with --out"
            )
    with tqdm(total=len(shards), unit="picture") as bar:
        for path, target in paths.items():
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with write_whole(target) as beside:
                    _write(beside, _embedded(shards, numbers[path], clip, bar))
            else:
                bar.update(len(numbers[path]))
    return list(paths.values())


@torch.no_grad()
def _embedded(shards: Shards, numbers: list[int], clip: ClipModel, bar: tqdm) -> Iterator[dict[str, Any]]:
    """Raw samples with their vectors."""
    for first in range(0, len(numbers), BATCH):
        samples = [shards[number] for number in numbers[first : first + BATCH]]
        pixels = torch.stack([_pixels(sample, clip) for sample in samples]).to(clip.encoder.device)
        vectors = clip.encoder.encode_image(pixels, with_grid=False).vector.float().cpu().numpy()
        for sample, vector in zip(samples, vectors, strict=True):
            file = io.BytesIO()
            np.save(file, vector)
            yield {**sample, CACHED: file.getvalue()}
            bar.update()


@torch.no_grad()
def _is_of(clip: ClipModel, sample: dict[str, Any]) -> bool:
    """Whether a sample has a vector, and it is this CLIP's."""
    if CACHED not in sample:
        return False
    vector = torch.from_numpy(np.load(io.BytesIO(sample[CACHED]), allow_pickle=False)).float()
    pixels = _pixels(sample, clip)[None].to(clip.encoder.device)
    fresh = clip.encoder.encode_image(pixels, with_grid=False).vector[0].float().cpu()
    return vector.shape == fresh.shape and F.cosine_similarity(vector, fresh, dim=0).item() >= SAME


def _same(before: Shards, shards: Shards, numbers: list[int]) -> bool:
    """Whether an embedded shard holds these samples, byte for byte, beside their vectors."""

    def content(sample: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in sample.items() if key not in (CACHED, "__url__")}

    return len(before) == len(numbers) and all(
        content(before[place]) == content(shards[number]) for place, number in enumerate(numbers)
    )


def _pixels(sample: dict[str, Any], clip: ClipModel) -> torch.Tensor:
    with noted(f"the picture of sample {sample['__key__']} of {sample['__url__']} cannot be read"):
        return pixels_of(sample, clip.preprocess)


def _write(path: Path, samples: Iterator[dict[str, Any]]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            add_sample(tar, sample["__key__"], {k: v for k, v in sample.items() if not k.startswith("__")})
