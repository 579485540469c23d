"""GLIDE's noise-aware CLIP: how well a noisy picture fits a text, and which way lies a better fit."""

import math
import re
from inspect import signature

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from torch import Tensor, nn

from ..layers import Transformer
from ..weights.load_original import check_config_keys, load_original
from ..weights.shapes import sizes

# Of pixels in 0…255, as in the original CLIP.
CHANNEL_MEANS = (122.77093945, 116.74601272, 104.09373519)
CHANNEL_STDS = (68.50053285, 66.63215831, 70.32316309)


class TextInput(nn.Module):
    """Token ids [N, length] -> [N, length, width]."""

    def __init__(self, n_vocab: int, length: int, width: int):
        super().__init__()
        self.w_voc = nn.Parameter(0.02 * torch.randn(n_vocab, width))
        self.w_pos = nn.Parameter(0.01 * torch.randn(length, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.w_voc) + self.w_pos


class ImageInput(nn.Module):
    """Images [N, 3, H, W] and timesteps [N] -> a timestep token and the patches', [N, 1 + patches, width]."""

    def __init__(self, image_size: int, patch_size: int, n_timesteps: int, width: int):
        super().__init__()
        patches = (image_size // patch_size) ** 2
        self.w_t = nn.Parameter(torch.randn(n_timesteps, width) * width**-0.5)
        self.w_pos = nn.Parameter(torch.randn(1 + patches, width) * width**-0.5)
        patch = torch.randn(width, 3, patch_size, patch_size)
        self.patch_proj = nn.Parameter(patch * (2 / width) ** 0.5 / patch_size)
        self.ln = nn.LayerNorm(width)

    def forward(self, images: Tensor, timesteps: Tensor) -> Tensor:
        means = images.new_tensor(CHANNEL_MEANS)[:, None, None]
        stds = images.new_tensor(CHANNEL_STDS)[:, None, None]
        pixels = ((images + 1) * 127.5 - means) / stds
        patches = F.conv2d(
            pixels.to(self.patch_proj.dtype), self.patch_proj, stride=self.patch_proj.shape[-1]
        )
        patches = rearrange(patches, "n width h w -> n (h w) width")
        time = F.embedding(timesteps, self.w_t)[:, None]
        return self.ln(torch.cat([time, patches], dim=1) + self.w_pos)


class Encoder(nn.Module):
    """An input layer, transformer blocks, and the embedding of one of the tokens."""

    def __init__(self, first: nn.Module, blocks: int, width: int, heads: int, n_embd: int, causal: bool):
        super().__init__()
        self.input = first
        self.transformer = Transformer(width, blocks, heads, causal=causal, per_head=False)
        self.ln = nn.LayerNorm(width)
        self.projection = nn.Linear(width, n_embd, bias=False)

    def forward(self, read: Tensor, *inputs: Tensor) -> Tensor:
        """The embedding [N, n_embd] of the tokens at positions `read` [N]."""
        return self.projection(self.ln(self.transformer(self.input(*inputs), only=read)[:, 0]))


class NoisedClip(ModelMixin, ConfigMixin):
    """Two transformers that agree on texts and noisy pictures. Source: GLIDE, section 4.3, and its code.

    n_head_*, n_head_state_*: heads and their channels; their product is the encoder's width.
    logit_scale: how much one unit of cosine similarity weighs in `guidance_gradient`.
    """

    @register_to_config
    def __init__(
        self,
        n_vocab: int = 65536,
        max_text_len: int = 77,
        n_embd: int = 512,
        n_head_text: int = 8,
        n_xf_blocks_text: int = 12,
        n_head_state_text: int = 64,
        image_size: int = 64,
        patch_size: int = 4,
        n_head_image: int = 12,
        n_xf_blocks_image: int = 12,
        n_head_state_image: int = 64,
        n_timesteps: int = 1000,
        logit_scale: float = 100.0,
    ):
        super().__init__()
        width = n_head_text * n_head_state_text
        first = TextInput(n_vocab, max_text_len, width)
        self.text_encoder = Encoder(first, n_xf_blocks_text, width, n_head_text, n_embd, causal=True)
        width = n_head_image * n_head_state_image
        first = ImageInput(image_size, patch_size, n_timesteps, width)
        self.image_encoder = Encoder(first, n_xf_blocks_image, width, n_head_image, n_embd, causal=False)

    @classmethod
    def from_original(
        cls,
        state_dict: dict[str, Tensor],
        config: dict | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "NoisedClip":
        """The network of GLIDE's two published files, in `dtype`, in eval mode.

        state_dict: their keys, prefixed `text_encoder.` and `image_encoder.`. config: what shapes cannot tell
        (head sizes, logit_scale), in the original's vocabulary. Raises ValueError naming up to five missing,
        extra or misshapen keys.
        """
        config = config or {}
        check_config_keys(config, signature(cls.__init__).parameters)
        with torch.device("meta"):
            net = cls(**{**_read_off(state_dict, config), **config})
        return load_original(net, _renamed(state_dict), dtype)

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Unnormalised embeddings [N, n_embd] of tokens [N, max_text_len], the first `lengths` [N] of them text."""
        length = self.config["max_text_len"]
        if tokens.dim() != 2 or tokens.shape[1] != length:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}; expected [N, {length}]")
        return self.text_encoder(lengths - 1, tokens)

    def encode_image(self, images: Tensor, timesteps: Tensor) -> Tensor:
        """Embeddings [N, n_embd] of length 1 of images [N, 3, H, W] in [-1, 1], noisy as at timesteps [N]."""
        size = self.config["image_size"]
        if images.dim() != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(f"images have shape {tuple(images.shape)}; expected [N, 3, {size}, {size}]")
        vectors = self.image_encoder(torch.zeros_like(timesteps), images, timesteps)
        return F.normalize(vectors.float(), dim=-1)

    def forward(
        self, images: Tensor, timesteps: Tensor, tokens: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embeddings of length 1 of noisy images and of their texts, both [N, n_embd]: what training compares."""
        texts = F.normalize(self.encode_text(tokens, lengths), dim=-1)
        return self.encode_image(images, timesteps), texts

    @torch.enable_grad()
    def guidance_gradient(
        self, images: Tensor, timesteps: Tensor, text_embedding: Tensor, scale: float
    ) -> Tensor:
        """The direction [N, 3, H, W] in which each picture fits its text [N, n_embd] better.

        It is `scale` times the gradient of logit_scale times the cosine similarity. Source: GLIDE, section
        2.4.
        """
        images = images.detach().requires_grad_()
        similarity = self.encode_image(images, timesteps) * F.normalize(text_embedding, dim=-1)
        (gradient,) = torch.autograd.grad(self.config["logit_scale"] * similarity.sum(), images)
        return scale * gradient


# The original's names of a block's, an input's and an output's parts.
_NAMES = {
    r"blocks\.input\.": "input.",
    r"blocks\.output\.ln\.": "ln.",
    r"blocks\.output\.f\.": "projection.",
    r"blocks\.block_(\d+)\.": r"transformer.resblocks.\1.",
    r"f_attn\.ln\.": "ln_1.",
    r"f_attn\.f_c\.": "attn.c_proj.",
    r"f_mlp\.ln\.": "ln_2.",
    r"f_mlp\.f_1\.": "mlp.c_fc.",
    r"f_mlp\.f_2\.": "mlp.c_proj.",
    r"\.[wg]$": ".weight",
    r"\.b$": ".bias",
}


def _renamed(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under our names; queries, keys and values become one layer, whose bias is 0 for keys."""
    weights = dict(state_dict)
    for query in [key for key in weights if key.endswith(".f_q.w")]:
        block = query.removesuffix("f_q.w")
        parts = [f"{block}{part}" for part in ("f_q.w", "f_k.w", "f_v.w", "f_q.b", "f_v.b")]
        if all(part in weights for part in parts):
            q, k, v, q_bias, v_bias = (weights.pop(part) for part in parts)
            joined = block.replace("f_attn.", "attn.c_qkv.")
            weights[f"{joined}w"] = torch.cat([q, k, v])
            weights[f"{joined}b"] = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
    return {_our_name(key): value for key, value in weights.items()}


def _our_name(key: str) -> str:
    for pattern, name in _NAMES.items():
        key = re.sub(pattern, name, key)
    return key


def _read_off(state_dict: dict[str, Tensor], config: dict) -> dict[str, int]:
    """The sizes that shapes tell. One whose key is missing is left out; loading then names the key."""
    text, image = "text_encoder.blocks", "image_encoder.blocks"
    told_by = {
        "n_vocab": (f"{text}.input.w_voc", 0),
        "max_text_len": (f"{text}.input.w_pos", 0),
        "n_head_text": (f"{text}.input.w_pos", 1),
        "n_embd": (f"{text}.output.f.w", 0),
        "n_timesteps": (f"{image}.input.w_t", 0),
        "patch_size": (f"{image}.input.patch_proj", -1),
        "image_size": (f"{image}.input.w_pos", 0),
        "n_head_image": (f"{image}.input.w_pos", 1),
    }
    told = sizes(state_dict, told_by)
    for side, prefix in (("text", text), ("image", image)):
        if f"n_head_{side}" in told:
            told[f"n_head_{side}"] //= config.get(f"n_head_state_{side}", 64)
        told[f"n_xf_blocks_{side}"] = sum(
            key.startswith(f"{prefix}.block_") and key.endswith("f_attn.ln.g") for key in state_dict
        )
    if "image_size" in told:
        told["image_size"] = math.isqrt(told["image_size"] - 1) * told.get("patch_size", 4)
    return told
