"""unCLIP's upsampler: from a picture of 64 pixels to one of 256, in seven steps of two networks."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..diffusion.unet import UNet
from ..diffusion.unet_layout import read_unet
from ..weights.load_original import check_config_keys, load_original
from ..weights.shapes import Shapes

_PREFIXES = {"model_first_steps.": "first.", "model_last_step.": "last."}


class UnCLIPUpsampler(ModelMixin, ConfigMixin):
    """Two U-Nets of convolutions only: `last`, trained adversarially, for the last step, `first` for all before it.

    channels, depth, channels_multiple: as `model_channels`, `num_res_blocks` and `channel_mult` of UNet. size: pixels
    of a side of the pictures it was trained on. Source: unCLIP (Ramesh et al. 2022), section 2.1, and kakaobrain/karlo,
    whose published upsampler the defaults are.
    """

    config: Any  # diffusers' frozen dict of the arguments, which can also be read as attributes

    @register_to_config
    def __init__(
        self,
        channels: int = 320,
        depth: int = 3,
        channels_multiple: tuple[int, ...] = (1, 2, 3, 4),
        size: int = 256,
    ):
        super().__init__()
        self.first, self.last = (
            UNet(6, 3, channels, depth, channels_multiple, scale_shift=False, middle_attention=False)
            for _ in range(2)
        )

    @classmethod
    def from_original(cls, state_dict: Mapping[str, Tensor], config: dict | None = None) -> "UnCLIPUpsampler":
        """The upsampler of a published checkpoint, float32, in eval mode.

        state_dict: the original's keys. config: what shapes cannot tell (size), in the original's vocabulary. Raises
        ValueError naming unknown config keys, or up to five missing, extra or misshapen weights.
        """
        config = config or {}
        check_config_keys(config, signature(cls).parameters)
        weights = {}
        for key, value in state_dict.items():
            prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), "")
            weights[_PREFIXES.get(prefix, "") + key.removeprefix(prefix)] = value
        of_one = {key.removeprefix("first."): w for key, w in weights.items() if key.startswith("first.")}
        layout = read_unet(Shapes(of_one, "upsampler"))
        told = (layout[key] for key in ("model_channels", "num_res_blocks", "channel_mult"))
        with torch.device("meta"):
            net = cls(*told, size=config.get("size", 256))
        return load_original(net, weights)

    def forward(self, x: Tensor, timesteps: Tensor, low_res: Tensor) -> Tensor:
        """Predicts the noise in x.

        x: [N, 3, H, W] in [-1, 1] plus noise; timesteps: integers [N] of the training schedule, where 0 is the last
        step. low_res: the small picture [N, 3, h, w], resized to H x W (bicubic, antialiased) if it is of another size.
        Returns epsilon [N, 3, H, W] in x's dtype. Raises ValueError where some of the timesteps are 0 and others not.
        """
        last = timesteps == 0
        if last.any() and not last.all():
            raise ValueError(
                "the last step (timestep 0) has a network of its own: do not mix it with other timesteps"
            )
        if low_res.shape[2:] != x.shape[2:]:
            low_res = F.interpolate(low_res, x.shape[2:], mode="bicubic", antialias=True)
        net = self.last if last.all() else self.first
        return net.denoise(torch.cat([x, low_res], dim=1), timesteps).to(x.dtype)
