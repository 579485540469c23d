"""How the judges of pictures learn: from renders in shards, augmented, in one loop."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..training.shards import Shards
from .picture_judge import PictureJudge, from_bytes
from .shards import write_shards
from .vocabulary import COLOURS, THINGS, is_held_out

# Evaluations use the first scenes of `novel`; those that judges learn from lie far behind them.
FIRST_NOVEL_TO_LEARN = 1_000_000
TEST_SCENES = 2000


def judge_shards(data: Path, scenes: int) -> tuple[list[Path], dict[str, list[Path]]]:
    """Shards of renders to learn from, and to test on by split; written into folders of `data`, or found there.

    To learn from: `scenes` of `train`, and in `judge` scenes of `novel` that no evaluation uses, as many as give all
    220 pairs equal shares: a judge that had never seen the held-out pairs could not recognise mini's.
    To test on: the first 2,000 scenes each of `val` and `novel`.
    """
    held_out = sum(is_held_out(thing, colour) for thing in THINGS for colour in COLOURS)
    unseen = round(scenes * held_out / (len(THINGS) * len(COLOURS) - held_out))
    shards = write_shards("train", scenes, data / "train")
    shards += write_shards("novel", unseen, data / "judge", start=FIRST_NOVEL_TO_LEARN)
    return shards, {split: write_shards(split, TEST_SCENES, data / split) for split in ("val", "novel")}


def read_scenes(shards: Sequence[Path], wanted: Callable[[dict], bool]) -> tuple[Tensor, list[dict]]:
    """The scenes of 64 px shards whose attributes are `wanted`: pictures uint8 [N, 64, 64, 3], and attributes."""
    images, attributes = [], []
    for sample in Shards(shards):
        scene = json.loads(sample["json"])
        if wanted(scene):
            attributes.append(scene)
            images.append(np.asarray(Image.open(io.BytesIO(sample["png"]))))
    return torch.from_numpy(np.stack(images)), attributes


def fit(
    judge: PictureJudge,
    images: Tensor,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    epochs: int,
    batch: int,
    learning_rate: float,
) -> None:
    """Train on `images` (uint8 [N, 64, 64, 3]) and save the judge as the one that ships.

    `loss(pixels, chosen, mirrored)` is that of one batch: `pixels` [B, 3, 64, 64] augmented, `chosen` [B] their
    numbers, `mirrored` bool [B]. It runs under bfloat16 autocast.
    """
    judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=learning_rate, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    with tqdm(total=steps, desc=type(judge).__name__) as bar:
        for _ in range(epochs):
            for chosen in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
                pixels, mirrored = augmented(from_bytes(images[chosen]))
                pixels = pixels.contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", torch.bfloat16):
                    value = loss(pixels, chosen, mirrored)
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                optimizer.step()
                rate.step()
                bar.update()
                if bar.n % 50 == 0:
                    bar.set_postfix(loss=f"{value.item():.3f}")
    judge.save()


def augmented(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures mirrored, moved, softened, brightened and noisy, and which of them are mirrored, bool [N].

    Generated pictures are less crisp than renders.
    """
    n = len(pixels)

    def between(low: float, high: float) -> Tensor:
        return torch.empty(n, 1, 1, 1).uniform_(low, high)

    scale, mirror = between(0.9, 1.1).view(n), torch.randint(0, 2, (n,)) * 2 - 1
    zero = torch.zeros(n)
    shift_x, shift_y = torch.empty(2, n).uniform_(-0.12, 0.12)
    rows = [torch.stack([scale * mirror, zero, shift_x], 1), torch.stack([zero, scale, shift_y], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    soft = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear")
    pixels = pixels.lerp(soft, between(-0.5, 1).clamp(min=0))
    pixels = pixels * between(0.9, 1.1) + between(-0.08, 0.08)
    return (pixels + torch.randn_like(pixels) * between(0, 0.08)).clamp(-1, 1), mirror < 0
