"""Point-E's surface model: a cloud -> how far any place is from its surface.

Submodules keep the original checkpoint's names, so loading it is a shape check. A cloud is encoded once by `encode`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from torch import Tensor, nn

from ..layers import MLP, CrossAttention, Transformer, with_waves
from ..weights.load_original import load_original
from ..weights.shapes import depth, sizes
from .arguments import arguments


class CrossBlock(nn.Module):
    """Queries look at a cloud's states, then each for itself goes through an MLP."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn = CrossAttention(width, heads)
        self.ln_1, self.ln_2, self.ln_3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, states: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), self.ln_2(states))
        return x + self.mlp(self.ln_3(x))


class Decoder(nn.Module):
    """A stack of cross-attention blocks."""

    def __init__(self, width: int, layers: int, heads: int):
        super().__init__()
        self.resblocks = nn.ModuleList(CrossBlock(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, states: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x, states)
        return x


class SurfaceModel(ModelMixin, ConfigMixin):
    """Signed distances to the surface of a cloud. Source: Point-E (Nichol et al. 2022), appendix C, and openai/point-e.

    n_ctx: points of the clouds it was trained on; it takes any number. *_heads: 64 channels each where published.
    octaves: of the waves that places come with (see `with_waves`); the published one has none.
    """

    config: Any  # diffusers' frozen dict of the arguments, which can also be read as attributes

    @register_to_config
    def __init__(
        self,
        n_ctx: int = 4096,
        width: int = 256,
        encoder_layers: int = 8,
        encoder_heads: int = 4,
        decoder_layers: int = 4,
        decoder_heads: int = 4,
        octaves: int = 0,
    ):
        super().__init__()
        self.encoder_input_proj = nn.Linear(3 + 6 * octaves, width)
        self.encoder = Transformer(width, encoder_layers, encoder_heads)
        self.decoder_input_proj = nn.Linear(3 + 6 * octaves, width)
        self.decoder = Decoder(width, decoder_layers, decoder_heads)
        self.ln_post = nn.LayerNorm(width)
        self.output_proj = nn.Linear(width, 1)

    @classmethod
    def from_original(
        cls, state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
    ) -> "SurfaceModel":
        """The network of the published `sdf` checkpoint, float32, in eval mode.

        state_dict: the original's keys. config: what shapes cannot tell (n_ctx, encoder_heads, decoder_heads), in the
        original's vocabulary. Raises ValueError naming unknown config keys, or up to five missing, extra or misshapen
        keys.
        """
        told = sizes(state_dict, {"width": ("encoder_input_proj.weight", 0)})
        told |= {f"{part}_layers": depth(state_dict, part) for part in ("encoder", "decoder")}
        with torch.device("meta"):
            net = cls(**arguments(cls, told, config))
        return load_original(net, state_dict)

    def encode(self, point_clouds: Tensor) -> Tensor:
        """What `encoded=` takes, [N, points, width], of clouds' xyz [N, 3, points]. ValueError on other shapes."""
        return self.encoder(self.encoder_input_proj(self._points(point_clouds, "point_clouds")))

    def forward(
        self, queries: Tensor, point_clouds: Tensor | None = None, encoded: Tensor | None = None
    ) -> Tensor:
        """Signed distances [N, M] at queries [N, 3, M], negative inside, in scene units.

        point_clouds: [N, 3, points]; or `encoded`, what `encode` made of them. Raises ValueError on other shapes.
        """
        if (point_clouds is None) == (encoded is None):
            raise ValueError("SurfaceModel needs a cloud: pass either point_clouds= or encoded=encode(…)")
        states = self.encode(point_clouds) if point_clouds is not None else encoded
        x = self._points(queries, "queries")
        if states is None or len(states) != len(x):
            raise ValueError(f"{len(x)} sets of queries were given with another number of clouds")
        x = self.decoder(self.decoder_input_proj(x), states)
        return self.output_proj(self.ln_post(x))[..., 0].to(queries.dtype)

    def _points(self, points: Tensor, name: str) -> Tensor:
        """[N, 3, points] -> [N, points, 3 + 6 octaves] in the network's format."""
        if points.dim() != 3 or points.shape[1] != 3:
            raise ValueError(f"{name} has shape {tuple(points.shape)}; expected [N, 3, points]")
        places = with_waves(rearrange(points, "n c points -> n points c"), self.config.octaves, period=1.0)
        return places.to(self.ln_post.weight.dtype)
