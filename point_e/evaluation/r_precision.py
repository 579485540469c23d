"""CLIP R-precision: whether renders of a cloud find its caption among all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..drawing import draw_cloud
from ..point_cloud import PointCloud

if TYPE_CHECKING:
    from ...clip.model import ClipModel

AZIMUTHS = (0, 90, 180, 270)


def r_precision(
    model: ClipModel,
    clouds: Sequence[PointCloud],
    captions: Sequence[str],
    azimuths: Sequence[float] = AZIMUTHS,
    progress: bool = False,
) -> float:
    """The share of renders, from each of `azimuths`, that CLIP finds nearer to their caption than to any other one.

    captions: of each cloud; equal ones count as one. A tie is not found. Raises ValueError for fewer than two
    different captions. Source: Park et al. 2021; Point-E, section 5.
    """
    different = sorted(set(captions))
    if len(different) < 2 or len(captions) != len(clouds):
        raise ValueError(
            f"R-precision needs a caption for each cloud, and two that differ: {len(captions)} captions, "
            f"{len(different)} different ones, {len(clouds)} clouds"
        )
    texts = model.embed_texts(different, truncate=True)
    pictures = [draw_cloud(cloud, azimuth) for cloud in clouds for azimuth in azimuths]
    images = model.embed_images(pictures, progress=progress)
    right = torch.tensor([different.index(caption) for caption in captions]).repeat_interleave(len(azimuths))
    scores = images @ texts.T
    own = scores.gather(1, right[:, None])
    return float(((scores >= own).sum(1) == 1).double().mean())
