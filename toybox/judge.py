"""The judge: a small network that says which thing in which colour a 64 px picture shows.

It is trained on renders only, never on generated pictures, and scores every later evaluation of mini.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from ..training.shards import Shards
from ..weights.write_whole import write_whole
from .shards import write_shards
from .vocabulary import COLOURS, THINGS, is_held_out

WEIGHTS = Path(__file__).parent / "judge" / "judge.safetensors"
# Evaluations use the first scenes of `novel`; those that the judge learns from lie far behind them.
FIRST_NOVEL_TO_LEARN = 1_000_000


class Judge(nn.Module):
    """Convolutional classifier of the one thing in a picture, with separate heads for thing and colour."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 64, 8, stride=4, padding=2, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            _Residual(64),
            nn.Conv2d(64, 128, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            _Residual(128),
        )
        self.thing = nn.Linear(128, len(THINGS))
        self.colour = nn.Linear(128, len(COLOURS))

    def forward(self, images: Tensor | np.ndarray | Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Logits of things [N, 20] and of colours [N, 11], in the order of THINGS and COLOURS.

        `images`: uint8 [N, 64, 64, 3], a list of PIL images (resized to 64 px), or a float tensor
        [N, 3, 64, 64] in [-1, 1]. Raises ValueError for another shape or type.
        """
        features = self.trunk(_pixels(images)).mean((2, 3))
        return self.thing(features), self.colour(features)

    @torch.no_grad()
    def name(self, images: Tensor | np.ndarray | Sequence[Image.Image]) -> list[tuple[str, str]]:
        """The likeliest (thing, colour) of each picture; `images` as for `forward`."""
        things, colours = (logits.argmax(1).tolist() for logits in self(images))
        return [(THINGS[thing], COLOURS[colour]) for thing, colour in zip(things, colours, strict=True)]

    @classmethod
    def load(cls, path: str | Path = WEIGHTS) -> "Judge":
        """The judge that ships with the package, in float32 and eval mode."""
        judge = cls()
        judge.load_state_dict({key: value.float() for key, value in load_file(path).items()})
        return judge.eval()

    def save(self, path: str | Path = WEIGHTS) -> None:
        """Write the weights in half precision."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The counts of seen batches steer training only, and half precision could not hold them.
        weights = {
            key: value.half().contiguous()
            for key, value in self.state_dict().items()
            if not key.endswith("num_batches_tracked")
        }
        with write_whole(path) as beside:
            save_file(weights, beside)


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def _pixels(images: Tensor | np.ndarray | Sequence[Image.Image]) -> Tensor:
    """Float [N, 3, 64, 64] in [-1, 1]."""
    if isinstance(images, Tensor):
        if images.shape[1:] != (3, 64, 64) or not images.is_floating_point():
            raise ValueError(f"A tensor of pictures must be float [N, 3, 64, 64], not {list(images.shape)}.")
        return images
    if not isinstance(images, np.ndarray):
        images = np.stack(
            [np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)) for image in images]
        )
    if images.shape[1:] != (64, 64, 3) or images.dtype != np.uint8:
        raise ValueError(
            f"An array of pictures must be uint8 [N, 64, 64, 3], not {images.dtype} {list(images.shape)}."
        )
    return _from_bytes(torch.from_numpy(images))


def _from_bytes(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def read_singles(shards: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """The one-thing scenes of 64 px shards: pictures uint8 [N, 64, 64, 3], (thing, colour) int64 [N, 2]."""
    images, labels = [], []
    for sample in Shards(shards):
        objects = json.loads(sample["json"])["objects"]
        if len(objects) == 1:
            labels.append((THINGS.index(objects[0]["thing"]), COLOURS.index(objects[0]["colour"])))
            images.append(np.asarray(Image.open(io.BytesIO(sample["png"]))))
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def train_judge(
    data: str | Path, scenes: int = 60_000, epochs: int = 5, batch: int = 128
) -> dict[str, float]:
    """Train the judge on renders, save it as the one that ships, and return its accuracies.

    Renders into folders of `data`, or finds there: `train`; `judge`, scenes of `novel` that no evaluation
    uses, as many as give all 220 pairs equal shares, since a judge that had never seen the held-out pairs
    could not recognise mini's; and, to test it, 2,000 scenes each of `val` and `novel`.
    Reproduce with `python -c "from maquette.toybox.judge import train_judge; print(train_judge('data'))"`.
    """
    data = Path(data)
    held_out = sum(is_held_out(thing, colour) for thing in THINGS for colour in COLOURS)
    unseen = round(scenes * held_out / (len(THINGS) * len(COLOURS) - held_out))
    shards = write_shards("train", scenes, data / "train")
    shards += write_shards("novel", unseen, data / "judge", start=FIRST_NOVEL_TO_LEARN)
    tests = {split: read_singles(write_shards(split, 2000, data / split)) for split in ("val", "novel")}
    images, labels = read_singles(shards)

    torch.manual_seed(0)
    judge = Judge().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    with tqdm(total=steps, desc="judge") as bar:
        for _ in range(epochs):
            for chosen in torch.randperm(len(images))[: len(images) // batch * batch].split(batch):
                pixels = _augmented(_from_bytes(images[chosen])).contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", torch.bfloat16):
                    things, colours = judge(pixels)
                loss = F.cross_entropy(things.float(), labels[chosen, 0], label_smoothing=0.05)
                loss = loss + F.cross_entropy(colours.float(), labels[chosen, 1], label_smoothing=0.05)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rate.step()
                bar.update()
                if bar.n % 50 == 0:
                    bar.set_postfix(loss=f"{loss.item():.3f}")
    judge.save()
    return {
        f"{split} {name}": accuracy
        for split, (pictures, truth) in tests.items()
        for name, accuracy in zip(("thing", "colour"), accuracies(Judge.load(), pictures, truth), strict=True)
    }


@torch.no_grad()
def accuracies(judge: Judge, images: Tensor, labels: Tensor, batch: int = 256) -> tuple[float, float]:
    """Shares of `images` (uint8 [N, 64, 64, 3]) whose thing and whose colour (`labels` [N, 2]) it finds."""
    right = [
        torch.stack([logits.argmax(1) for logits in judge(_from_bytes(pictures))], 1) == truth
        for pictures, truth in zip(images.split(batch), labels.split(batch), strict=True)
    ]
    thing, colour = torch.cat(right).double().mean(0).tolist()
    return thing, colour


def _augmented(pixels: Tensor) -> Tensor:
    """Mirrored, moved, softened, brightened and noisy: generated pictures are less crisp than renders."""
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
    return (pixels + torch.randn_like(pixels) * between(0, 0.08)).clamp(-1, 1)
