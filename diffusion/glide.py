"""GLIDE's U-Net in all four variants: base, upsample, inpaint, upsample-inpaint."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..weights.load_original import check_config_keys, load_original
from ..weights.shapes import Shapes, depth
from .unet import Conditioning, UNet
from .unet_layout import read_unet

# What `from_original` takes: what shapes do not tell, and what they tell anyway.
_FREE = ("image_size", "dropout", "num_heads", "num_head_channels", "xf_heads")
_TOLD = (
    "model_channels", "num_channels", "out_channels", "num_res_blocks", "attention_resolutions", "channel_mult",
    "text_ctx", "xf_width", "xf_layers", "xf_final_ln", "xf_padding", "n_vocab", "super_res", "inpaint",
    "use_scale_shift_norm", "resblock_updown", "num_heads_upsample", "diffusion_steps", "noise_schedule",
    "timestep_respacing", "use_fp16", "cache_text_emb",
)  # fmt: skip


class GlideUNet(UNet):
    """GLIDE's text-conditional diffusion U-Net. Source: GLIDE (Nichol et al. 2021), section 4 and openai/glide-text2im.

    image_size: pixels of a side that the network was trained for. attention_resolutions: as `attention_factors` of
    UNet, where the other arguments are told, too. super_res, inpaint: whether the input also takes `low_res`, or
    `inpaint_image` and `inpaint_mask`. text_width: of the states of a text encoder, such as CLIP's, that the network
    reads in place of tokens; it then has no vocabulary.
    """

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
        patch_size: int = 1,
        text_width: int | None = None,
    ):
        super().__init__(
            3 + 3 * super_res + 4 * inpaint,
            out_channels,
            model_channels,
            num_res_blocks,
            channel_mult,
            attention_resolutions,
            xf_width,
            num_heads,
            num_head_channels,
            norm_num_groups,
            dropout,
            patch_size=patch_size,
        )
        if text_width is None:
            self.token_embedding = nn.Embedding(n_vocab, xf_width)
        else:
            self.text_proj = nn.Linear(text_width, xf_width)
        self.add_text_transformer(text_ctx, xf_width, xf_layers, xf_heads, xf_final_ln, xf_padding)

    @classmethod
    def from_original(
        cls,
        state_dict: dict[str, Tensor],
        config: dict | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "GlideUNet":
        """The network of a published GLIDE checkpoint, in `dtype`, in eval mode.

        state_dict: the original's keys. config: what shapes cannot tell (image_size, dropout, num_heads,
        num_head_channels, xf_heads), in the original's vocabulary; what shapes tell is taken from them. Raises
        ValueError naming unknown config keys, or up to five missing, extra or misshapen weights.
        """
        config = config or {}
        check_config_keys(config, (*_FREE, *_TOLD))
        with torch.device("meta"):
            net = cls(**{**_layout(state_dict), **{key: config[key] for key in _FREE if key in config}})
        flat = {key: value.squeeze(-1) if value.dim() == 3 else value for key, value in state_dict.items()}
        return load_original(net, flat, dtype)

    def encode_text(
        self, tokens: Tensor | None = None, mask: Tensor | None = None, text_states: Tensor | None = None
    ) -> Conditioning:
        """Runs the text transformer on tokens int64 [N, ctx], or on text_states [N, ctx, text_width].

        mask: bool [N, ctx], True: a token; None: all are. An all-False mask is the empty text, which classifier-free
        guidance leans away from.
        """
        ctx, width = self.config.text_ctx, self.config.text_width
        name, text, embed, size = (
            ("tokens", tokens, self.token_embedding, (ctx,))
            if width is None
            else ("text_states", text_states, self.text_proj, (ctx, width))
        )
        if text is None or text.shape[1:] != size:
            shape = None if text is None else tuple(text.shape)
            raise ValueError(
                f"a text is needed: {name} of shape [N, {', '.join(map(str, size))}], not {shape}"
            )
        return self.condition(*self.read_text(embed(text.to(embed.weight.dtype) if width else text), mask))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        low_res: Tensor | None = None,
        inpaint_image: Tensor | None = None,
        inpaint_mask: Tensor | None = None,
        text: Conditioning | None = None,
        text_states: Tensor | None = None,
    ) -> Tensor:
        """Predicts the noise in x and where its variance lies.

        x: [N, 3, H, W] in [-1, 1] plus noise; timesteps: integers [N] of the training schedule.
        tokens (or text_states), mask: as for `encode_text`; or `text`, what it made of them.
        low_res: [N, 3, h, w], for the upsamplers. inpaint_image [N, 3, H, W] and inpaint_mask [N, 1, H, W]
        (1: known), for the inpainting networks; None: nothing is known.
        Returns [N, 6, H, W] in x's dtype: epsilon, then the variance interpolation. Raises ValueError on bad shapes.
        """
        text = text or self.encode_text(tokens, mask, text_states)
        return self.denoise(self._input(x, low_res, inpaint_image, inpaint_mask), timesteps, text).to(x.dtype)

    def _input(self, x, low_res, inpaint_image, inpaint_mask):
        """x with the conditioning images beside it, in the original's channel order."""
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected [N, 3, H, W]")
        parts = [x]
        if self.config.inpaint:
            inpaint_image = torch.zeros_like(x) if inpaint_image is None else inpaint_image
            inpaint_mask = torch.zeros_like(x[:, :1]) if inpaint_mask is None else inpaint_mask
            parts += [inpaint_image * inpaint_mask, inpaint_mask]
        elif inpaint_image is not None or inpaint_mask is not None:
            raise ValueError("this GlideUNet does not inpaint: leave out inpaint_image and inpaint_mask")
        if self.config.super_res:
            if low_res is None:
                raise ValueError("this GlideUNet is an upsampler: pass low_res= [N, 3, h, w]")
            parts.append(F.interpolate(low_res, x.shape[2:], mode="bilinear"))
        elif low_res is not None:
            raise ValueError("this GlideUNet is no upsampler: leave out low_res")
        return torch.cat(parts, dim=1)


def _layout(state_dict: dict[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments that shapes tell, and the published image size."""
    shape = Shapes(state_dict, "GLIDE")
    layout = read_unet(shape)
    in_channels = layout["in_channels"]
    if in_channels not in (3, 6, 7, 10):
        raise ValueError(f"not a GLIDE checkpoint: {in_channels} input channels; expected 3, 6, 7 or 10")
    n_vocab, xf_width = shape["token_embedding.weight"]
    return {
        "image_size": 256 if in_channels in (6, 10) else 64,
        **{key: layout[key] for key in ("model_channels", "out_channels", "num_res_blocks", "channel_mult")},
        "attention_resolutions": layout["attention_factors"],
        "text_ctx": shape["positional_embedding"][0],
        "xf_width": xf_width,
        "xf_layers": depth(shape, "transformer"),
        "xf_final_ln": "final_ln.weight" in shape,
        "xf_padding": "padding_embedding" in shape,
        "n_vocab": n_vocab,
        "super_res": in_channels in (6, 10),
        "inpaint": in_channels in (7, 10),
    }
