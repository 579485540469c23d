"""The judge: a small network that says which thing in which colour a 64 px picture shows.

It is trained on renders only, never on generated pictures, and scores every later evaluation of mini.
`pair_judge.py` is the one for two things.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .picture_judge import PictureJudge, Pictures, Residual, from_bytes, to_pixels
from .vocabulary import COLOURS, THINGS


class Judge(PictureJudge):
    """Convolutional classifier of the one thing in a picture, with separate heads for thing and colour."""

    weights = Path(__file__).parent / "judge" / "judge.safetensors"

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 64, 8, stride=4, padding=2, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            Residual(64),
            nn.Conv2d(64, 128, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            Residual(128),
        )
        self.thing = nn.Linear(128, len(THINGS))
        self.colour = nn.Linear(128, len(COLOURS))

    def forward(self, images: Pictures) -> tuple[Tensor, Tensor]:
        """Logits of things [N, 20] and of colours [N, 11], in the order of THINGS and COLOURS.

        Raises ValueError for pictures of another shape or type than `Pictures`.
        """
        features = self.trunk(to_pixels(images).to(self.thing.weight.device)).mean((2, 3))
        return self.thing(features), self.colour(features)

    @torch.no_grad()
    def name(self, images: Pictures) -> list[tuple[str, str]]:
        """The likeliest (thing, colour) of each picture."""
        things, colours = (logits.argmax(1).tolist() for logits in self(images))
        return [(THINGS[thing], COLOURS[colour]) for thing, colour in zip(things, colours, strict=True)]


def train_judge(
    data: str | Path, scenes: int = 60_000, epochs: int = 5, batch: int = 128
) -> dict[str, float]:
    """Train the judge on renders, save it as the one that ships, and return its accuracies.

    Renders into folders of `data`, or finds there, what `judge_training.judge_shards` says.
    Reproduce with `python -c "from maquette.toybox.judge import train_judge; print(train_judge('data'))"`.
    """
    from .judge_training import fit, judge_shards

    shards, tests = judge_shards(Path(data), scenes)
    images, labels = _read_singles(shards)
    torch.manual_seed(0)
    judge = Judge()

    def loss(pixels: Tensor, chosen: Tensor, mirrored: Tensor) -> Tensor:
        things, colours = judge(pixels)
        value = F.cross_entropy(things.float(), labels[chosen, 0], label_smoothing=0.05)
        return value + F.cross_entropy(colours.float(), labels[chosen, 1], label_smoothing=0.05)

    fit(judge, images, loss, epochs, batch, learning_rate=2e-3)
    return {
        f"{split} {name}": accuracy
        for split, shards in tests.items()
        for name, accuracy in zip(
            ("thing", "colour"), accuracies(Judge.load(), *_read_singles(shards)), strict=True
        )
    }


def _read_singles(shards: list[Path]) -> tuple[Tensor, Tensor]:
    """The one-thing scenes of 64 px shards: pictures uint8 [N, 64, 64, 3], (thing, colour) int64 [N, 2]."""
    from .judge_training import read_scenes

    images, scenes = read_scenes(shards, lambda scene: len(scene["objects"]) == 1)
    toys = [scene["objects"][0] for scene in scenes]
    return images, torch.tensor([(THINGS.index(toy["thing"]), COLOURS.index(toy["colour"])) for toy in toys])


@torch.no_grad()
def accuracies(judge: Judge, images: Tensor, labels: Tensor, batch: int = 256) -> tuple[float, float]:
    """Shares of `images` (uint8 [N, 64, 64, 3]) whose thing and whose colour (`labels` [N, 2]) it finds."""
    right = [
        torch.stack([logits.argmax(1) for logits in judge(from_bytes(pictures))], 1) == truth
        for pictures, truth in zip(images.split(batch), labels.split(batch), strict=True)
    ]
    thing, colour = torch.cat(right).double().mean(0).tolist()
    return thing, colour
