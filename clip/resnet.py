"""CLIP's ResNet: three stem convolutions, anti-aliased strides, and attention in place of the last pooling."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """A bottleneck whose stride is an average pooling before a convolution of stride 1."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1):
        super().__init__()
        outputs = planes * self.expansion
        self.stride = stride
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu3 = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inplanes != outputs:
            layers = [
                nn.AvgPool2d(stride),
                nn.Conv2d(inplanes, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            ]
            self.downsample = nn.Sequential(OrderedDict(zip(("-1", "0", "1"), layers, strict=True)))

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu1(self.bn1(self.conv1(x)))
        h = self.relu2(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(self.avgpool(h)))
        return self.relu3(h + (x if self.downsample is None else self.downsample(x)))


class AttentionPool2d(nn.Module):
    """A feature map [N, embed_dim, H, W] -> [N, output_dim] by one query, its mean, over all its positions.

    The arguments have the original's names, `spacial_dim` included.
    """

    def __init__(self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int | None = None):
        super().__init__()
        self.num_heads = num_heads
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim**2 + 1, embed_dim) * embed_dim**-0.5)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim or embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "n c h w -> n (h w) c")
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        q, k, v = (
            rearrange(layer(part), "n p (heads c) -> n heads p c", heads=self.num_heads)
            for layer, part in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        pooled = rearrange(F.scaled_dot_product_attention(q, k, v), "n heads 1 c -> n (heads c)")
        return F.linear(pooled.float(), self.c_proj.weight.float(), self.c_proj.bias.float())


class ModifiedResNet(nn.Module):
    """Pixels -> one vector. Source: CLIP (Radford et al. 2021), section 2.4."""

    pool = AttentionPool2d

    def __init__(
        self,
        layers: tuple[int, ...],
        output_dim: int,
        heads: int,
        input_resolution: int = 224,
        width: int = 64,
    ):
        super().__init__()
        self.output_dim, self.input_resolution = output_dim, input_resolution
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(2)
        inputs = width
        for number, blocks in enumerate(layers, start=1):
            planes = width * 2 ** (number - 1)
            stage = [Bottleneck(inputs, planes, stride=1 if number == 1 else 2)]
            inputs = planes * Bottleneck.expansion
            stage += [Bottleneck(inputs, planes) for _ in range(blocks - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
        self.stages = len(layers)
        self.attnpool = self.pool(input_resolution // 32, inputs, heads, output_dim)

    def forward(self, pixels: Tensor, with_grid: bool = True) -> tuple[Tensor, None]:
        """[N, 3, H, W] -> [N, output_dim] in float32; there are no patch tokens."""
        x = self.relu1(self.bn1(self.conv1(pixels)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.avgpool(self.relu3(self.bn3(self.conv3(x))))
        for number in range(1, self.stages + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.attnpool(x), None
