"""PointNet++, the classifier of clouds behind P-FID and P-IS.

Submodules keep the original checkpoint's names, so loading it is a shape check. Unless told otherwise, every
farthest-point search starts from a cloud's first point, so that its features do not depend on its place in a batch.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange, reduce
from torch import Tensor, nn

from ..weights.load_original import load_original
from ..weights.shapes import sizes
from .arguments import arguments
from .points import farthest_points

FEWEST = 512  # points of a cloud


class Classified(NamedTuple):
    """features: [N, 256 width_mult], for P-FID; log_probabilities: [N, num_class], for P-IS."""

    features: Tensor
    log_probabilities: Tensor


class SetAbstraction(nn.Module):
    """Points and their features -> `count` of the points, with features of up to `near` points within `radius`.

    Without a count all points make one group. Source: PointNet++, section 3.2.
    """

    def __init__(
        self, channels: tuple[int, ...], count: int | None = None, radius: float = 0.0, near: int = 0
    ):
        super().__init__()
        self.count, self.radius, self.near = count, radius, near
        pairs = list(pairwise(channels))
        self.mlp_convs = nn.ModuleList(nn.Conv2d(first, last, 1) for first, last in pairs)
        self.mlp_bns = nn.ModuleList(nn.BatchNorm2d(last) for _, last in pairs)

    def forward(self, xyz: Tensor, features: Tensor, starts: int | Tensor) -> tuple[Tensor, Tensor]:
        """xyz [N, points, 3] and features [N, points, C] -> the same of the points that are kept."""
        joined = torch.cat([xyz, features], dim=-1)
        if self.count is None:
            kept, groups = xyz[:, :1], joined[:, None]
        else:
            rows = torch.arange(len(xyz), device=xyz.device)[:, None]
            kept = xyz[rows, farthest_points(xyz, self.count, starts)]
            groups = joined[rows[..., None], self._neighbours(xyz, kept)]
            groups = torch.cat([groups[..., :3] - kept[:, :, None], groups[..., 3:]], dim=-1)
        h = rearrange(groups, "n kept near c -> n c near kept")
        for conv, norm in zip(self.mlp_convs, self.mlp_bns, strict=True):
            h = F.relu(norm(conv(h)))
        return kept, reduce(h, "n c near kept -> n kept c", "max")

    def _neighbours(self, xyz: Tensor, kept: Tensor) -> Tensor:
        """The first `near` indices within the radius of each kept point; where there are fewer, the first again."""
        points = xyz.shape[1]
        # Written as the original does: other ways of rounding see other points on the rim.
        distances = -2 * kept @ xyz.mT + kept.square().sum(-1)[..., None] + xyz.square().sum(-1)[:, None]
        indices = torch.arange(points, device=xyz.device).expand(distances.shape)
        indices = indices.masked_fill(distances > self.radius**2, points)
        indices = indices.topk(self.near, largest=False, sorted=True).values
        return torch.where(indices == points, indices[..., :1], indices)


class PointNetClassifier(ModelMixin, ConfigMixin):
    """PointNet++ with single-scale grouping. Source: Qi et al. 2017; width and weights from openai/point-e, evals.

    width_mult: channels in multiples of the paper's. normal_channel: whether points come with normals. classes: what
    they are called, for those who read the result.
    """

    @register_to_config
    def __init__(
        self,
        num_class: int = 40,
        width_mult: float = 2,
        normal_channel: bool = False,
        classes: Sequence[str] | None = None,
    ):
        super().__init__()
        w64, w128, w256, w512, w1024 = (
            round(channels * width_mult) for channels in (64, 128, 256, 512, 1024)
        )
        first = 6 if normal_channel else 3
        self.sa1 = SetAbstraction((first, w64, w64, w128), count=FEWEST, radius=0.2, near=32)
        self.sa2 = SetAbstraction((w128 + 3, w128, w128, w256), count=128, radius=0.4, near=64)
        self.sa3 = SetAbstraction((w256 + 3, w256, w512, w1024))
        self.fc1, self.bn1 = nn.Linear(w1024, w512), nn.BatchNorm1d(w512)
        self.fc2, self.bn2 = nn.Linear(w512, w256), nn.BatchNorm1d(w256)
        self.fc3 = nn.Linear(w256, num_class)
        self.dropout = nn.Dropout(0.4)

    @classmethod
    def from_original(
        cls, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
    ) -> "PointNetClassifier":
        """The published network, float32, in eval mode, from the keys under the file's "model_state_dict".

        config: nothing that shapes do not tell. Raises ValueError naming unknown config keys, or up to five missing,
        extra or misshapen keys.
        """
        told: dict[str, Any] = sizes(
            state_dict, {"num_class": ("fc3.weight", 0), "width_mult": ("fc2.weight", 0)}
        )
        if "width_mult" in told:
            told["width_mult"] /= 256
        if (first := state_dict.get("sa1.mlp_convs.0.weight")) is not None:
            told["normal_channel"] = first.shape[1] == 6
        return load_original(cls(**arguments(cls, told, config)), state_dict)

    def forward(self, clouds: Tensor, starts: int | Tensor = 0) -> Classified:
        """clouds: [N, 3, points], or with normals [N, 6, points], from 512 points on, as `in_unit_ball` scales them.

        starts: the index, one for all or int64 [N], from which farthest-point searches start. The original starts from
        a cloud's place in its batch, `torch.arange(N)`. Raises ValueError on other shapes.
        """
        channels = 6 if self.config["normal_channel"] else 3
        if clouds.dim() != 3 or clouds.shape[1] != channels or clouds.shape[2] < FEWEST:
            raise ValueError(
                f"clouds have shape {tuple(clouds.shape)}; expected [N, {channels}, points], {FEWEST} points or more"
            )
        points = rearrange(clouds, "n c points -> n points c")
        xyz, features = self.sa1(points[..., :3], points[..., 3:], starts)
        xyz, features = self.sa2(xyz, features, starts)
        _, features = self.sa3(xyz, features, starts)
        h = self.dropout(F.relu(self.bn1(self.fc1(features[:, 0]))))
        features = self.bn2(self.fc2(h))
        return Classified(features, self.fc3(self.dropout(F.relu(features))).log_softmax(dim=-1))
