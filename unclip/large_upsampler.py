"""unCLIP's second upsampler: from a picture of 256 pixels to one of 1,024, by convolutions alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..diffusion.unet import UNet


class LargeUpsampler(UNet):
    """A U-Net without attention, text or embedding. Source: unCLIP (Ramesh et al. 2022), section 2.1 and table 3.

    It learns from crops and draws pictures of any size. The arguments are UNet's; image_size: pixels of a side of the
    pictures that it makes.
    """

    @register_to_config
    def __init__(
        self,
        image_size: int = 1024,
        model_channels: int = 192,
        num_res_blocks: int = 2,
        channel_mult: tuple[int, ...] = (1, 1, 2, 2, 4, 4),
        dropout: float = 0.0,
        norm_num_groups: int = 32,
        patch_size: int = 1,
    ):
        super().__init__(
            *(6, 6, model_channels, num_res_blocks, channel_mult),
            norm_num_groups=norm_num_groups,
            dropout=dropout,
            middle_attention=False,
            patch_size=patch_size,
        )

    def forward(self, x: Tensor, timesteps: Tensor, low_res: Tensor) -> Tensor:
        """Predicts the noise in x and where its variance lies.

        x: [N, 3, H, W] in [-1, 1] plus noise; timesteps: integers [N] of the training schedule; low_res: the small
        picture [N, 3, h, w], resized to H x W (bicubic) if it is of another size. Returns [N, 6, H, W] in x's dtype:
        epsilon, then the variance interpolation. Raises ValueError on other shapes.
        """
        if low_res.shape[2:] != x.shape[2:]:
            low_res = F.interpolate(low_res.float(), x.shape[2:], mode="bicubic")
        return self.denoise(torch.cat([x, low_res.to(x.dtype)], dim=1), timesteps).to(x.dtype)
