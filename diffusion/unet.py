"""GLIDE's conditional U-Net in all four variants: base, upsample, inpaint, upsample-inpaint.

Submodules keep the original checkpoint's names, so loading one is a shape check. Text states and their keys and values
are made once by `encode_text` and reused at every step.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..layers import Transformer, attend, group_norm_silu, timestep_embedding
from ..weights.load_original import load_original
from .unet_layout import layout_from_original


@dataclass
class TextConditioning:
    """What the U-Net needs of a text, for a whole sampling run.

    projection: [N, 4 * model_channels], added to the time embedding.
    states: [N, ctx, xf_width].
    keys_values: one (keys, values) pair of [N, heads, ctx, head_channels] per attention block, in running order.
    """

    projection: Tensor
    states: Tensor
    keys_values: list[tuple[Tensor, Tensor]]


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all its parameters 0: what ends a residual branch starts by adding nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """Two convolutions with the time embedding as scale and shift; `resample` is None, "up" or "down"."""

    def __init__(self, channels, embedding_channels, out_channels, groups, dropout=0.0, resample=None):
        super().__init__()
        self.resample = resample
        self.in_layers: Any = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding_channels, 2 * out_channels))
        self.out_layers: Any = nn.Sequential(
            nn.GroupNorm(groups, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = (
            nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)
        )

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        norm, _, conv = self.in_layers
        h = group_norm_silu(x, norm)
        if self.resample == "up":
            h, x = F.interpolate(h, scale_factor=2.0), F.interpolate(x, scale_factor=2.0)
        elif self.resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h = conv(h)
        scale, shift = self.emb_layers[1](emb).chunk(2, dim=1)
        norm, _, dropout, conv = self.out_layers
        h = group_norm_silu(h, norm, scale, shift)
        return self.skip_connection(x) + conv(dropout(h))


class AttentionBlock(nn.Module):
    """Every position attends to all positions and to the text tokens."""

    def __init__(self, channels, heads, encoder_channels, groups):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.encoder_kv = nn.Linear(encoder_channels, 2 * channels)
        self.proj_out = zeroed(nn.Linear(channels, channels))

    def text_keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        n, length, _ = states.shape
        return self.encoder_kv(states).view(n, length, self.heads, -1).transpose(1, 2).chunk(2, dim=-1)

    def forward(self, x: Tensor, text: tuple[Tensor, Tensor]) -> Tensor:
        n, channels, height, width = x.shape
        h = self.norm(x).permute(0, 2, 3, 1).reshape(n, height * width, channels)
        q, k, v = self.qkv(h).view(n, height * width, self.heads, -1).transpose(1, 2).chunk(3, dim=-1)
        k, v = torch.cat([text[0], k], dim=2), torch.cat([text[1], v], dim=2)
        h = attend(q, k, v)
        h = self.proj_out(h.transpose(1, 2).reshape(n, height * width, channels))
        return x + h.view(n, height, width, channels).permute(0, 3, 1, 2)


class GlideUNet(ModelMixin, ConfigMixin):
    """GLIDE's text-conditional diffusion U-Net. Source: GLIDE (Nichol et al. 2021), section 4 and openai/glide-text2im.

    image_size: pixels of a side that the network was trained for.
    attention_resolutions: the down-sampling factors at which attention blocks stand.
    channel_mult: channels of each level, in multiples of model_channels.
    num_head_channels: channels of one attention head; -1 for `num_heads` heads everywhere.
    norm_num_groups: groups of each group norm; leave several channels to a group, or a picture's mean colour is lost.
    super_res, inpaint: whether the input also takes `low_res`, or `inpaint_image` and `inpaint_mask`.
    """

    config: Any  # diffusers' frozen dict of the arguments, which can also be read as attributes

    @register_to_config
    def __init__(
        self,
        image_size: int = 64,
        model_channels: int = 192,
        out_channels: int = 6,
        num_res_blocks: int = 3,
        attention_resolutions: tuple[int, ...] = (2, 4, 8),
        channel_mult: tuple[int, ...] = (1, 2, 3, 4),
        dropout: float = 0.1,
        num_heads: int = 1,
        num_head_channels: int = 64,
        text_ctx: int = 128,
        xf_width: int = 512,
        xf_layers: int = 16,
        xf_heads: int = 8,
        xf_final_ln: bool = True,
        xf_padding: bool = True,
        n_vocab: int = 50257,
        norm_num_groups: int = 32,
        super_res: bool = False,
        inpaint: bool = False,
    ):
        super().__init__()
        embedding_channels = 4 * model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, embedding_channels),
            nn.SiLU(),
            nn.Linear(embedding_channels, embedding_channels),
        )
        self.transformer = Transformer(xf_width, xf_layers, xf_heads)
        self.final_ln = nn.LayerNorm(xf_width) if xf_final_ln else nn.Identity()
        self.token_embedding = nn.Embedding(n_vocab, xf_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(text_ctx, xf_width))
        self.padding_embedding = nn.Parameter(0.01 * torch.randn(text_ctx, xf_width)) if xf_padding else None
        self.transformer_proj = nn.Linear(xf_width, embedding_channels)
        self._add_blocks()
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _add_blocks(self):
        """The U itself: input blocks, whose results are kept, middle block, output blocks, which take them in turn."""
        config = self.config
        model_channels, num_res_blocks = config.model_channels, config.num_res_blocks

        def res(channels, out, resample=None):
            return ResBlock(
                channels, 4 * model_channels, out, config.norm_num_groups, config.dropout, resample
            )

        def attention(channels):
            heads = (
                config.num_heads if config.num_head_channels == -1 else channels // config.num_head_channels
            )
            return AttentionBlock(channels, heads, config.xf_width, config.norm_num_groups)

        levels = list(enumerate(config.channel_mult))
        in_channels = 3 + 3 * config.super_res + 4 * config.inpaint
        channels = model_channels * config.channel_mult[0]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(in_channels, channels, 3, padding=1)])])
        skips = [channels]
        for level, mult in levels:
            for _ in range(num_res_blocks):
                block: list[nn.Module] = [res(channels, channels := mult * model_channels)]
                if 2**level in config.attention_resolutions:
                    block.append(attention(channels))
                self.input_blocks.append(nn.ModuleList(block))
                skips.append(channels)
            if level < len(levels) - 1:
                self.input_blocks.append(nn.ModuleList([res(channels, channels, "down")]))
                skips.append(channels)
        self.middle_block = nn.ModuleList(
            [res(channels, channels), attention(channels), res(channels, channels)]
        )
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(levels):
            for i in range(num_res_blocks + 1):
                block: list[nn.Module] = [res(channels + skips.pop(), channels := mult * model_channels)]
                if 2**level in config.attention_resolutions:
                    block.append(attention(channels))
                if level and i == num_res_blocks:
                    block.append(res(channels, channels, "up"))
                self.output_blocks.append(nn.ModuleList(block))
        last = zeroed(nn.Conv2d(channels, config.out_channels, 3, padding=1))
        self.out: Any = nn.Sequential(nn.GroupNorm(config.norm_num_groups, channels), nn.SiLU(), last)

    @classmethod
    def from_original(cls, state_dict: dict[str, Tensor], config: dict | None = None) -> "GlideUNet":
        """The network of a published GLIDE checkpoint, float32, in eval mode.

        state_dict: the original's keys. config: what shapes cannot tell (head sizes, image size), in the
        original's vocabulary. Raises ValueError naming up to five missing, extra or misshapen keys.
        """
        net = cls(**layout_from_original(state_dict, config or {}))
        squeezed = {
            key: value.squeeze(-1) if value.dim() == 3 else value for key, value in state_dict.items()
        }
        return load_original(net, squeezed)

    def encode_text(self, tokens: Tensor, mask: Tensor | None = None) -> TextConditioning:
        """Runs the text transformer on tokens int64 [N, ctx], mask bool [N, ctx] (True: a token; None: all).

        An all-False mask is the empty text, which classifier-free guidance leans away from.
        """
        ctx = self.config.text_ctx
        if tokens.dim() != 2 or tokens.shape[1] != ctx:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}; expected [N, {ctx}].")
        x = self.token_embedding(tokens) + self.positional_embedding
        if self.padding_embedding is not None and mask is not None:
            x = torch.where(mask[..., None], x, self.padding_embedding)
        states = self.final_ln(self.transformer(x))
        blocks = [m for m in self.modules() if isinstance(m, AttentionBlock)]
        return TextConditioning(
            self.transformer_proj(states[:, -1]), states, [b.text_keys_values(states) for b in blocks]
        )

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        low_res: Tensor | None = None,
        inpaint_image: Tensor | None = None,
        inpaint_mask: Tensor | None = None,
        text: TextConditioning | None = None,
    ) -> Tensor:
        """Predicts the noise in x and where its variance lies.

        x: [N, 3, H, W] in [-1, 1] plus noise; timesteps: integers [N] of the training schedule.
        tokens, mask: [N, ctx]; or `text`, what `encode_text` made of them.
        low_res: [N, 3, h, w], for the upsamplers. inpaint_image [N, 3, H, W] and inpaint_mask [N, 1, H, W]
        (1: known), for the inpainting networks; None: nothing is known.
        Returns [N, 6, H, W] in x's dtype: epsilon, then the variance interpolation. Raises ValueError on bad shapes.
        """
        if text is None:
            if tokens is None:
                raise ValueError("GlideUNet needs a text: pass tokens= and mask=, or text=encode_text(…).")
            text = self.encode_text(tokens, mask)
        if len(text.projection) != len(x) or len(timesteps) != len(x):
            raise ValueError(
                f"{len(x)} pictures were given with {len(text.projection)} texts and {len(timesteps)} timesteps."
            )
        dtype = self.token_embedding.weight.dtype
        h = self._network_input(x, low_res, inpaint_image, inpaint_mask).to(dtype)
        h = h.contiguous(memory_format=torch.channels_last)
        embedding = timestep_embedding(timesteps, self.config.model_channels).to(dtype)
        emb = F.silu(self.time_embed(embedding) + text.projection)
        keys_values = iter(text.keys_values)

        def run(block, h):
            for layer in block:
                if isinstance(layer, ResBlock):
                    h = layer(h, emb)
                elif isinstance(layer, AttentionBlock):
                    h = layer(h, next(keys_values))
                else:
                    h = layer(h)
            return h

        skips = []
        for block in self.input_blocks:
            h = run(block, h)
            skips.append(h)
        h = run(self.middle_block, h)
        for block in self.output_blocks:
            h = run(block, torch.cat([h, skips.pop()], dim=1))
        return self._read_out(h.float()).to(x.dtype)

    def _read_out(self, h: Tensor) -> Tensor:
        """The last norm and convolution, in float32: at high noise an error in epsilon is magnified in x_0."""
        norm, _, conv = self.out
        h = group_norm_silu(h, norm)
        return F.conv2d(h, conv.weight.float(), conv.bias.float(), padding=1)

    def _network_input(self, x, low_res, inpaint_image, inpaint_mask):
        """x with the conditioning images beside it, in the original's channel order."""
        side = 2 ** (len(self.config.channel_mult) - 1)
        if x.dim() != 4 or x.shape[1] != 3 or x.shape[2] % side or x.shape[3] % side:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected [N, 3, H, W] with H and W multiples of {side}."
            )
        parts = [x]
        if self.config.inpaint:
            inpaint_image = torch.zeros_like(x) if inpaint_image is None else inpaint_image
            inpaint_mask = torch.zeros_like(x[:, :1]) if inpaint_mask is None else inpaint_mask
            parts += [inpaint_image * inpaint_mask, inpaint_mask]
        elif inpaint_image is not None or inpaint_mask is not None:
            raise ValueError("this GlideUNet does not inpaint: leave out inpaint_image and inpaint_mask.")
        if self.config.super_res:
            if low_res is None:
                raise ValueError("this GlideUNet is an upsampler: pass low_res= [N, 3, h, w].")
            parts.append(F.interpolate(low_res, x.shape[2:], mode="bilinear"))
        elif low_res is not None:
            raise ValueError("this GlideUNet is no upsampler: leave out low_res.")
        for part in parts:
            if part.dim() != 4 or len(part) != len(x) or part.shape[2:] != x.shape[2:]:
                raise ValueError(
                    f"a conditioning image [{tuple(part.shape)}] does not fit x [{tuple(x.shape)}]."
                )
        return torch.cat(parts, dim=1)
