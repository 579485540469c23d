"""PointNet++ as a stage of training: clouds and what they show go in, the error of its guess comes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import BaseModel, Field

from ...clip.training.pairs import caption_in
from ...training import TrainConfig
from ...training.layout import new_network
from ..classifier import PointNetClassifier
from ..points import in_unit_ball
from .clouds import POINTS, random_rows, read_cloud

SMOOTHING = 0.05


class ClassifierTraining(BaseModel, title="stage: of a classifier's recipe", extra="forbid", frozen=True):
    """How PointNetClassifier is trained.

    classes: their names; a sample is of the one that its caption names.
    points: how many of a cloud's points a step sees.
    """

    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    points: Annotated[int, Field(ge=512, le=POINTS)] = 1024


class ClassifierStage:
    """Trains PointNetClassifier, without colours. Source: PointNet++ (Qi et al. 2017), appendix B.

    The recipe's `model:` holds PointNetClassifier's arguments, its `stage:` what ClassifierTraining says. Samples have
    a cloud, see `read_cloud`, and a caption. Raises what these raise.
    """

    def __init__(self, config: TrainConfig):
        self.settings = settings = ClassifierTraining.model_validate(config.stage)
        if config.precision != "float32":
            raise ValueError(
                "this network measures distances, for which 16 bits are few; add precision: float32"
            )
        torch.manual_seed(config.seed)
        self.model = new_network(
            PointNetClassifier, config.model, num_class=len(settings.classes), classes=settings.classes
        )

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """See `read_cloud` and `named_class`."""
        label = named_class(caption_in(sample), self.settings.classes)
        return {"cloud": read_cloud(sample), "label": label}

    def loss(self, model, batch, generator):
        """The cross-entropy, with smoothed labels, and the share of clouds whose class is found."""
        xyz = random_rows(batch["cloud"], self.settings.points, generator)[:, :3]
        balls = in_unit_ball(rearrange(xyz, "n c points -> n points c"))
        guess = model(rearrange(balls, "n points c -> n c points")).log_probabilities.float()
        right = (guess.argmax(1) == batch["label"]).float().mean()
        return F.cross_entropy(guess, batch["label"], label_smoothing=SMOOTHING), {"right": right}

    def save(self, model, folder: Path) -> None:
        """Write the classifier, as `maquette evaluate clouds --classifier` takes it."""
        model.save_pretrained(folder)


def named_class(caption: str, classes: tuple[str, ...]) -> int:
    """Which of the classes a caption names, as whole words. Raises ValueError where it names none or several."""
    found = [number for number, name in enumerate(classes) if re.search(rf"\b{re.escape(name)}\b", caption)]
    if len(found) != 1:
        names = ", ".join(classes[number] for number in found) or "none"
        raise ValueError(f"its caption {caption!r} should name one of the classes, but names {names}")
    return found[0]
