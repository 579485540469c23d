"""CLIP's ResNet: three stem convolutions, anti-aliased strides, and attention in place of the last pooling."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """A bottleneck whose stride is an average pooling before a convolution of stride 1."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1):
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.ModuleDict(
                {"0": nn.Conv2d(inputs, outputs, 1, bias=False), "1": nn.BatchNorm2d(outputs)}
            )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(self.pool(h)))
        if self.downsample is not None:
            x = self.downsample["1"](self.downsample["0"](self.pool(x)))
        return F.relu(h + x)


class AttentionPool(nn.Module):
    """A feature map [N, C, H, W] -> [N, embed_dim] by one query, its mean, over all its positions."""

    def __init__(self, side: int, width: int, heads: int, embed_dim: int):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) * width**-0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "n c h w -> n (h w) c")
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.positional_embedding
        q, k, v = (
            rearrange(layer(part), "n p (heads c) -> n heads p c", heads=self.heads)
            for layer, part in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        pooled = rearrange(F.scaled_dot_product_attention(q, k, v), "n heads 1 c -> n (heads c)")
        return F.linear(pooled.float(), self.c_proj.weight.float(), self.c_proj.bias.float())


class ModifiedResNet(nn.Module):
    """Pixels -> one vector. Source: CLIP (Radford et al. 2021), section 2.4."""

    def __init__(self, image_resolution: int, layers: tuple[int, ...], width: int, embed_dim: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        inputs = width
        for number, blocks in enumerate(layers, start=1):
            planes = width * 2 ** (number - 1)
            stage = [Bottleneck(inputs, planes, stride=1 if number == 1 else 2)]
            inputs = planes * Bottleneck.expansion
            stage += [Bottleneck(inputs, planes) for _ in range(blocks - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
        self.stages = len(layers)
        self.attnpool = AttentionPool(image_resolution // 32, inputs, inputs // 64, embed_dim)

    def forward(self, pixels: Tensor, with_grid: bool = True) -> tuple[Tensor, None]:
        """[N, 3, H, W] -> [N, embed_dim] in float32; there are no patch tokens."""
        x = pixels
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(conv(x)))
        x = F.avg_pool2d(x, 2)
        for number in range(1, self.stages + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.attnpool(x), None
