"""GLIDE's noise-aware CLIP: how well a noisy picture fits a text, and which way lies a better fit.

Submodules keep the original checkpoints' names, so loading them is a shape check.
"""

import math

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..weights.load_original import load_original

# Of pixels in 0…255, as in the original CLIP.
CHANNEL_MEANS = (122.77093945, 116.74601272, 104.09373519)
CHANNEL_STDS = (68.50053285, 66.63215831, 70.32316309)


class LayerNorm(nn.Module):
    """Layer normalisation, its parameters named as in the checkpoint."""

    def __init__(self, width: int):
        super().__init__()
        self.g = nn.Parameter(torch.ones(width))
        self.b = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.g.shape, self.g, self.b)


class Affine(nn.Module):
    """A linear layer, its parameters named as in the checkpoint."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True):
        super().__init__()
        self.w = nn.Parameter(torch.randn(outputs, inputs) * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w, self.b)


class Attention(nn.Module):
    """Self-attention with its residual; keys have no bias."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.ln = LayerNorm(width)
        self.f_q = Affine(width, width)
        self.f_k = Affine(width, width, bias=False)
        self.f_v = Affine(width, width)
        self.f_c = Affine(width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln(x)
        q, k, v = (
            f(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.f_q, self.f_k, self.f_v)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return x + self.f_c(h.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """The feed-forward half of a block with its residual, four times as wide inside."""

    def __init__(self, width: int):
        super().__init__()
        self.ln = LayerNorm(width)
        self.f_1 = Affine(width, 4 * width)
        self.f_2 = Affine(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f_2(F.gelu(self.f_1(self.ln(x))))


class Block(nn.Module):
    """Attention, then the feed-forward half."""

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.f_attn = Attention(width, heads, causal)
        self.f_mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.f_mlp(self.f_attn(x))


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
        self.ln = LayerNorm(width)

    def forward(self, images: Tensor, timesteps: Tensor) -> Tensor:
        means = images.new_tensor(CHANNEL_MEANS)[:, None, None]
        stds = images.new_tensor(CHANNEL_STDS)[:, None, None]
        pixels = ((images + 1) * 127.5 - means) / stds
        patches = F.conv2d(pixels, self.patch_proj, stride=self.patch_proj.shape[-1])
        time = F.embedding(timesteps, self.w_t)[:, None]
        return self.ln(torch.cat([time, patches.flatten(2).transpose(1, 2)], dim=1) + self.w_pos)


class Output(nn.Module):
    """One token's state [N, width] -> its embedding."""

    def __init__(self, width: int, n_embd: int):
        super().__init__()
        self.ln = LayerNorm(width)
        self.f = Affine(width, n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self.ln(x))


class Encoder(nn.Module):
    """An input layer, transformer blocks and an output layer."""

    def __init__(self, first: nn.Module, blocks: int, width: int, heads: int, n_embd: int, causal: bool):
        super().__init__()
        self.blocks = nn.ModuleDict({"input": first})
        self.blocks.update({f"block_{i}": Block(width, heads, causal) for i in range(blocks)})
        self.blocks["output"] = Output(width, n_embd)

    def forward(self, read: Tensor, *inputs: Tensor) -> Tensor:
        """The embedding [N, n_embd] of the tokens at positions `read` [N]."""
        first, *blocks, output = self.blocks.values()
        x = first(*inputs)
        for block in blocks:
            x = block(x)
        return output(x[torch.arange(len(x), device=x.device), read])


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
    def from_original(cls, state_dict: dict[str, Tensor], config: dict | None = None) -> "NoisedClip":
        """The network of GLIDE's two published files, float32, in eval mode.

        state_dict: their keys, prefixed `text_encoder.` and `image_encoder.`. config: what shapes cannot tell
        (head sizes, logit_scale), in the original's vocabulary. Raises ValueError naming up to five missing,
        extra or misshapen keys.
        """
        return load_original(cls(**{**_read_off(state_dict, config or {}), **(config or {})}), state_dict)

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
        return F.normalize(self.image_encoder(torch.zeros_like(timesteps), images, timesteps), dim=-1)

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


def _read_off(state_dict: dict[str, Tensor], config: dict) -> dict[str, int]:
    """The sizes that shapes tell. One whose key is missing is left out; loading then names the key."""
    text, image = "text_encoder.blocks", "image_encoder.blocks"
    tells = {
        "n_vocab": (f"{text}.input.w_voc", 0),
        "max_text_len": (f"{text}.input.w_pos", 0),
        "n_head_text": (f"{text}.input.w_pos", 1),
        "n_embd": (f"{text}.output.f.w", 0),
        "n_timesteps": (f"{image}.input.w_t", 0),
        "patch_size": (f"{image}.input.patch_proj", -1),
        "image_size": (f"{image}.input.w_pos", 0),
        "n_head_image": (f"{image}.input.w_pos", 1),
    }
    sizes = {name: state_dict[key].shape[axis] for name, (key, axis) in tells.items() if key in state_dict}
    for side, prefix in (("text", text), ("image", image)):
        if f"n_head_{side}" in sizes:
            sizes[f"n_head_{side}"] //= config.get(f"n_head_state_{side}", 64)
        sizes[f"n_xf_blocks_{side}"] = sum(
            key.startswith(f"{prefix}.block_") and key.endswith("f_attn.ln.g") for key in state_dict
        )
    if "image_size" in sizes:
        sizes["image_size"] = math.isqrt(sizes["image_size"] - 1) * sizes.get("patch_size", 4)
    return sizes
