"""unCLIP's decoder: from a CLIP image embedding, and its caption, to a picture of 64 pixels."""

from collections.abc import Mapping
from inspect import signature

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from torch import Tensor, nn

from ..diffusion.unet import Conditioning, UNet
from ..diffusion.unet_layout import read_unet
from ..weights.load_original import check_config_keys, load_original
from ..weights.shapes import Shapes
from .check_shapes import check_shapes


class UnCLIPDecoder(UNet):
    """GLIDE's U-Net, conditioned on a CLIP image embedding too. Source: unCLIP (Ramesh et al. 2022), section 2.1.

    attention_resolutions: positions of a side at which attention blocks stand. clip_emb_mult: context tokens made of
    the image embedding, before the text's. text_ctx: tokens of a text, clip_dim: channels of CLIP's vectors,
    text_width: of its text states, None: as many. `cf_param` [clip_dim] is the image embedding of no image, which
    classifier-free guidance leans away from. norm_num_groups, patch_size: as in UNet. xf_layers, xf_heads: of GLIDE's
    transformer over the text states, which the paper keeps.
    The layout, and the defaults, are kakaobrain/karlo's, which has no such transformer.
    """

    @register_to_config
    def __init__(
        self,
        image_size: int = 64,
        num_channels: int = 320,
        num_res_blocks: int = 3,
        channel_mult: tuple[int, ...] = (1, 2, 3, 4),
        attention_resolutions: tuple[int, ...] = (32, 16, 8),
        num_head_channels: int = 64,
        text_ctx: int = 77,
        xf_width: int = 1536,
        clip_dim: int = 768,
        clip_emb_mult: int = 4,
        dropout: float = 0.1,
        text_width: int | None = None,
        norm_num_groups: int = 32,
        patch_size: int = 1,
        xf_layers: int = 0,
        xf_heads: int = 8,
    ):
        super().__init__(
            *(3, 6, num_channels, num_res_blocks, channel_mult),
            attention_factors=[image_size // patch_size // side for side in attention_resolutions],
            context_width=xf_width,
            num_head_channels=num_head_channels,
            norm_num_groups=norm_num_groups,
            dropout=dropout,
            patch_size=patch_size,
        )
        self.clip_emb = nn.Linear(clip_dim, 4 * num_channels)
        self.clip_tok_proj = nn.Linear(clip_dim, clip_emb_mult * xf_width)
        self.text_feat_proj = nn.Linear(clip_dim, 4 * num_channels)
        if xf_layers:
            self.text_proj = nn.Linear(text_width or clip_dim, xf_width)
            self.add_text_transformer(text_ctx, xf_width, xf_layers, xf_heads)
        else:
            self.text_seq_proj = nn.Sequential(
                nn.Linear(text_width or clip_dim, xf_width), nn.LayerNorm(xf_width)
            )
        self.cf_param = nn.Parameter(torch.zeros(clip_dim))

    @classmethod
    def from_original(cls, state_dict: Mapping[str, Tensor], config: dict | None = None) -> "UnCLIPDecoder":
        """The decoder of a published checkpoint, float32, in eval mode.

        state_dict: the original's keys. config: what shapes cannot tell (image_size, num_head_channels, text_ctx,
        dropout), in the original's vocabulary; what shapes tell is taken from them. Raises ValueError naming unknown
        config keys, or up to five missing, extra or misshapen weights.
        """
        config = config or {}
        check_config_keys(config, signature(cls).parameters)
        flat = {key: value.squeeze(-1) if value.dim() == 3 else value for key, value in state_dict.items()}
        weights = {key.removeprefix("model."): value for key, value in flat.items()}
        shape = Shapes(weights, "decoder")
        layout = read_unet(shape)
        told = {key: layout[key] for key in ("num_res_blocks", "channel_mult")}
        told["num_channels"], size = layout["model_channels"], config.get("image_size", 64)
        told["attention_resolutions"] = tuple(size // factor for factor in layout["attention_factors"])
        told["xf_width"], told["text_width"] = shape["text_seq_proj.0.weight"]
        told["clip_dim"] = shape["cf_param"][0]
        told["clip_emb_mult"] = shape["clip_tok_proj.weight"][0] // told["xf_width"]
        with torch.device("meta"):
            net = cls(**{**config, **told})
        return load_original(net, weights)

    def encode_conditions(
        self,
        image_embedding: Tensor,
        text_embedding: Tensor,
        text_states: Tensor,
        mask: Tensor | None = None,
        has_image: Tensor | None = None,
    ) -> Conditioning:
        """What `forward` needs of its conditions for a whole sampling run. Arguments as there."""
        n, width = len(image_embedding), self.config.clip_dim
        check_shapes(
            image_embedding=(image_embedding, (n, width)),
            text_embedding=(text_embedding, (n, width)),
            text_states=(text_states, (n, self.config.text_ctx, self.config.text_width or width)),
            mask=(mask, (n, self.config.text_ctx)),
            has_image=(has_image, (n,)),
        )
        dtype, count = self.cf_param.dtype, self.config.clip_emb_mult
        image, text, states = image_embedding.to(dtype), text_embedding.to(dtype), text_states.to(dtype)
        if has_image is not None:
            image = torch.where(has_image[:, None], image, self.cf_param)
        tokens = rearrange(self.clip_tok_proj(image), "n (c count) -> n count c", count=count)
        projection = self.clip_emb(image) + self.text_feat_proj(text)
        if self.config.xf_layers:
            of_text, states = self.read_text(self.text_proj(states), mask)
            return self.condition(projection + of_text, torch.cat([tokens, states], dim=1))
        context = torch.cat([tokens, self.text_seq_proj(states)], dim=1)
        mask = None if mask is None else F.pad(mask, (count, 0), value=True)
        return self.condition(projection, context, mask)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        image_embedding: Tensor | None = None,
        text_embedding: Tensor | None = None,
        text_states: Tensor | None = None,
        mask: Tensor | None = None,
        has_image: Tensor | None = None,
        conditioning: Conditioning | None = None,
    ) -> Tensor:
        """Predicts the noise in x and where its variance lies.

        x: [N, 3, H, W] in [-1, 1] plus noise; timesteps: integers [N] of the training schedule. image_embedding,
        text_embedding: CLIP's [N, clip_dim], unnormalised; text_states: CLIP's [N, text_ctx, text_width]; mask: bool
        [N, text_ctx], True: a token; None: all; has_image: bool [N], where it is False `cf_param` stands in for the
        image embedding; None: all have. Or `conditioning`, what `encode_conditions` made of them.
        Returns [N, 6, H, W] in x's dtype: epsilon, then the variance interpolation. Raises ValueError on other shapes.
        """
        if conditioning is None:
            if image_embedding is None or text_embedding is None or text_states is None:
                raise ValueError("pass image_embedding=, text_embedding= and text_states=, or conditioning=")
            conditioning = self.encode_conditions(
                image_embedding, text_embedding, text_states, mask, has_image
            )
        return self.denoise(x, timesteps, conditioning).to(x.dtype)
