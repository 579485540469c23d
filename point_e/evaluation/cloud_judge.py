"""Toybox's judge of clouds: a PointNet++ that says which of its things a cloud is, whatever its colours.

It learned from true clouds of one thing (`point_e/mini-classifier.yaml`), and its features are what mini's P-FID is
made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ... import toybox
from ...weights.load_saved import load_saved
from ..classifier import PointNetClassifier
from ..point_cloud import PointCloud
from .measures import Classified, classified

JUDGE = "toybox"  # what stands for it where a classifier is asked for
FOLDER = Path(toybox.__file__).parent / "judge" / "clouds"
POINTS = 1024


def judged(clouds: Sequence[PointCloud], progress: bool = False) -> Classified:
    """What the judge makes of clouds, its classes in the order of `toybox.THINGS`.

    Of each it looks at 1,024 points drawn at random, as it did in training: it tells neither denser clouds nor points
    in some order apart so well. Raises what `classified` raises.
    """
    judge = load_saved(PointNetClassifier, FOLDER, torch.float32)
    return classified(judge, [cloud.random_sample(POINTS).coords for cloud in clouds], progress=progress)
