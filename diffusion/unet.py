"""The ADM U-Net: residual blocks, optional attention to itself and to a context. GLIDE and unCLIP build on it.

Submodules keep the original checkpoints' names, so loading one is a shape check. What a call's conditions come to for
the attention blocks is computed once, as `Conditioning`, and used again at every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from einops import rearrange
from torch import Tensor, nn

from ..layers import Transformer, attend, group_norm_silu, timestep_embedding


@dataclass
class Conditioning:
    """What a U-Net needs of its conditions, for a whole sampling run.

    projection: [N, 4 * model_channels], added to the time embedding.
    keys_values: one (keys, values) pair of [N, heads, length, head_channels] per attention block, in running order.
    mask: bool [N, length], True where the context may be seen; None: everywhere.
    states: [N, length, width], the context itself.
    """

    projection: Tensor
    states: Tensor
    keys_values: list[tuple[Tensor, Tensor]]
    mask: Tensor | None = None

    def rows(self, index: Tensor) -> "Conditioning":
        """The conditioning of samples `index` [M] of the N, of some more than once perhaps."""
        return Conditioning(
            self.projection[index],
            self.states[index],
            [(keys[index], values[index]) for keys, values in self.keys_values],
            None if self.mask is None else self.mask[index],
        )


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all its parameters 0: what ends a residual branch starts by adding nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """Two convolutions with the time embedding between them; `resample` is None, "up" or "down".

    scale_shift: whether the embedding scales and shifts the second norm's result, or is added before the norm.
    """

    def __init__(
        self, channels, embedding_channels, out_channels, groups, dropout, scale_shift, resample=None
    ):
        super().__init__()
        self.resample, self.scale_shift = resample, scale_shift
        self.in_layers: Any = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding_channels, (1 + scale_shift) * out_channels)
        )
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
        """x [N, channels, H, W] and emb [N, embedding_channels] after its SiLU -> [N, out_channels, H', W']."""
        norm, _, conv = self.in_layers
        h = group_norm_silu(x, norm)
        if self.resample == "up":
            h, x = F.interpolate(h, scale_factor=2.0), F.interpolate(x, scale_factor=2.0)
        elif self.resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h, emb = conv(h), self.emb_layers[1](emb)
        norm, _, dropout, conv = self.out_layers
        if self.scale_shift:
            h = group_norm_silu(h, norm, *emb.chunk(2, dim=1))
        else:
            h = group_norm_silu(h + emb[:, :, None, None], norm)
        return self.skip_connection(x) + conv(dropout(h))


class AttentionBlock(nn.Module):
    """Every position attends to all positions and to the context, if there is one."""

    def __init__(self, channels, heads, context_width, groups):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        if context_width:
            self.encoder_kv = nn.Linear(context_width, 2 * channels)
        self.proj_out = zeroed(nn.Linear(channels, channels))

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The context [N, length, context_width] as keys and values [N, heads, length, head_channels]."""
        keys, values = rearrange(
            self.encoder_kv(states), "n length (heads two c) -> two n heads length c", two=2, heads=self.heads
        )
        return keys, values

    def forward(
        self, x: Tensor, context: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """x [N, channels, H, W] -> the same shape. mask: bool [N, length], of the context."""
        height = x.shape[2]
        h = rearrange(self.norm(x), "n c h w -> n (h w) c")
        q, k, v = rearrange(
            self.qkv(h), "n length (heads three c) -> three n heads length c", three=3, heads=self.heads
        )
        if context is not None:
            k, v = torch.cat([context[0], k], dim=2), torch.cat([context[1], v], dim=2)
        if mask is not None:
            mask = F.pad(mask, (0, q.shape[2]), value=True)[:, None, None]
        h = self.proj_out(rearrange(attend(q, k, v, mask=mask), "n heads length c -> n length (heads c)"))
        return x + rearrange(h, "n (h w) c -> n c h w", h=height)


class UNet(ModelMixin, ConfigMixin):
    """The network itself. Source: ADM (Dhariwal & Nichol 2021), section 3.

    attention_factors: the down-sampling factors at which attention blocks stand. channel_mult: channels of each level,
    in multiples of model_channels. num_head_channels: channels of one attention head; -1 for `num_heads` heads
    everywhere. norm_num_groups: groups of each group norm; leave several channels to a group, or a picture's mean
    colour is lost. scale_shift: see ResBlock. context_width: channels of what attention blocks also attend to; None: of
    nothing. middle_attention: whether the middle has an attention block. patch_size: pixels of a side that become one
    position at the door, and again pixels at the end.
    """

    config: Any  # diffusers' frozen dict of the arguments, which can also be read as attributes

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        num_res_blocks: int,
        channel_mult: Sequence[int],
        attention_factors: Sequence[int] = (),
        context_width: int | None = None,
        num_heads: int = 1,
        num_head_channels: int = 64,
        norm_num_groups: int = 32,
        dropout: float = 0.0,
        scale_shift: bool = True,
        middle_attention: bool = True,
        patch_size: int = 1,
    ):
        super().__init__()
        if not channel_mult:
            raise ValueError("channel_mult is empty; give one number for each level, such as [1, 2, 4]")
        self.model_channels, self.patch_size = model_channels, patch_size
        self.factor = patch_size * 2 ** (len(channel_mult) - 1)
        emb_channels = 4 * model_channels

        def res(channels, out, resample=None):
            return ResBlock(channels, emb_channels, out, norm_num_groups, dropout, scale_shift, resample)

        def attention(channels):
            heads = num_heads if num_head_channels == -1 else channels // num_head_channels
            return AttentionBlock(channels, heads, context_width, norm_num_groups)

        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, emb_channels), nn.SiLU(), nn.Linear(emb_channels, emb_channels)
        )
        levels = list(enumerate(channel_mult))
        channels = model_channels * channel_mult[0]
        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([nn.Conv2d(patch_size**2 * in_channels, channels, 3, padding=1)])]
        )
        skips = [channels]
        for level, mult in levels:
            for _ in range(num_res_blocks):
                block: list[nn.Module] = [res(channels, channels := mult * model_channels)]
                if 2**level in attention_factors:
                    block.append(attention(channels))
                self.input_blocks.append(nn.ModuleList(block))
                skips.append(channels)
            if level < len(levels) - 1:
                self.input_blocks.append(nn.ModuleList([res(channels, channels, "down")]))
                skips.append(channels)
        between = [attention(channels)] if middle_attention else []
        self.middle_block = nn.ModuleList([res(channels, channels), *between, res(channels, channels)])
        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(levels):
            for i in range(num_res_blocks + 1):
                block = [res(channels + skips.pop(), channels := mult * model_channels)]
                if 2**level in attention_factors:
                    block.append(attention(channels))
                if level and i == num_res_blocks:
                    block.append(res(channels, channels, "up"))
                self.output_blocks.append(nn.ModuleList(block))
        last = zeroed(nn.Conv2d(channels, patch_size**2 * out_channels, 3, padding=1))
        self.out: Any = nn.Sequential(nn.GroupNorm(norm_num_groups, channels), nn.SiLU(), last)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def add_text_transformer(
        self, ctx: int, width: int, layers: int, heads: int, final_ln: bool = True, padding: bool = True
    ) -> None:
        """GLIDE's transformer over texts of ctx tokens: what `read_text` reads with."""
        self.transformer = Transformer(width, layers, heads)
        self.final_ln = nn.LayerNorm(width) if final_ln else nn.Identity()
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(ctx, width))
        self.padding_embedding = nn.Parameter(0.01 * torch.randn(ctx, width)) if padding else None
        self.transformer_proj = nn.Linear(width, 4 * self.model_channels)

    def read_text(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens' embeddings [N, ctx, width] and their mask, as `condition`'s projection and states."""
        x = x + self.positional_embedding
        if self.padding_embedding is not None and mask is not None:
            x = torch.where(mask[..., None], x, self.padding_embedding)
        states = self.final_ln(self.transformer(x))
        return self.transformer_proj(states[:, -1]), states

    def condition(self, projection: Tensor, states: Tensor, mask: Tensor | None = None) -> Conditioning:
        """The conditioning of a vector [N, 4 * model_channels] and a context [N, length, context_width]."""
        blocks = [module for module in self.modules() if isinstance(module, AttentionBlock)]
        return Conditioning(projection, states, [block.keys_values(states) for block in blocks], mask)

    def denoise(self, x: Tensor, timesteps: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """What the network makes of its whole input x [N, in_channels, H, W]: float32 [N, out_channels, H, W].

        Raises ValueError where x and the timesteps [N] do not go together, or H and W are no multiples of the factor by
        which the deepest level is smaller.
        """
        rows = {len(x), len(timesteps), len(x) if conditioning is None else len(conditioning.projection)}
        if len(rows) > 1:
            given = 0 if conditioning is None else len(conditioning.projection)
            raise ValueError(
                f"{len(x)} pictures were given with {given} conditions and {len(timesteps)} timesteps"
            )
        if x.dim() != 4 or x.shape[2] % self.factor or x.shape[3] % self.factor:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected [N, C, H, W] with H and W multiples of {self.factor}"
            )
        dtype = self.out[2].weight.dtype
        h = F.pixel_unshuffle(x.to(dtype), self.patch_size).contiguous(memory_format=torch.channels_last)
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels).to(dtype))
        emb = F.silu(emb if conditioning is None else emb + conditioning.projection)
        contexts = iter(conditioning.keys_values if conditioning else [])
        mask = conditioning.mask if conditioning else None

        def run(block, h):
            for layer in block:
                if isinstance(layer, ResBlock):
                    h = layer(h, emb)
                elif isinstance(layer, AttentionBlock):
                    h = layer(h, next(contexts, None), mask)
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
        return F.pixel_shuffle(self._read_out(h.float()), self.patch_size)

    def _read_out(self, h: Tensor) -> Tensor:
        """The last norm and convolution, in float32: at high noise an error in epsilon is magnified in x0."""
        norm, _, conv = self.out
        h = group_norm_silu(h, norm)
        return F.conv2d(h, conv.weight.float(), conv.bias.float(), padding=1)
