"""OpenAI's CLIP as they published it: plain modules of their structure, names and keys, sequence-first inside.

Code that reaches into their model (hooks, prompt learning, a body run by hand, tracing, export) finds here what it
expects. For fast vectors there is `maquette.ClipModel`. Source: github.com/openai/CLIP, clip/model.py.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from inspect import signature

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.transformer import QUICK
from ...weights.load_original import load_original
from ...weights.read_weights import NOT_WEIGHTS
from .. import resnet
from ..encoder import sizes_of
from ..resnet import Bottleneck

__all__ = [
    "CLIP",
    "AttentionPool2d",
    "Bottleneck",
    "LayerNorm",
    "ModifiedResNet",
    "QuickGELU",
    "ResidualAttentionBlock",
    "Transformer",
    "VisionTransformer",
    "build_model",
    "convert_weights",
]


class LayerNorm(nn.LayerNorm):
    """Computes in float32, whatever the format of its weights, and answers in the format of its input."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).type(x.dtype)


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(QUICK * x)


class ResidualAttentionBlock(nn.Module):
    """x [length, N, d_model] -> the same shape. attn_mask: added to the attention's logits, [length, length]."""

    def __init__(self, d_model: int, n_head: int, attn_mask: Tensor | None = None):
        super().__init__()
        self.attn = nn.MultiheadAttention(d_model, n_head)
        self.ln_1 = LayerNorm(d_model)
        layers = [nn.Linear(d_model, 4 * d_model), QuickGELU(), nn.Linear(4 * d_model, d_model)]
        self.mlp = nn.Sequential(OrderedDict(zip(("c_fc", "gelu", "c_proj"), layers, strict=True)))
        self.ln_2 = LayerNorm(d_model)
        self.attn_mask = attn_mask

    def attention(self, x: Tensor) -> Tensor:
        mask = self.attn_mask
        if mask is not None and (mask.dtype, mask.device) != (x.dtype, x.device):
            self.attn_mask = mask = mask.to(x.device, x.dtype)  # kept: a copy to a GPU takes its time
        return self.attn(x, x, x, need_weights=False, attn_mask=mask)[0]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks, [length, N, width] -> the same shape."""

    def __init__(self, width: int, layers: int, heads: int, attn_mask: Tensor | None = None):
        super().__init__()
        self.width, self.layers = width, layers
        self.resblocks = nn.Sequential(
            *(ResidualAttentionBlock(width, heads, attn_mask) for _ in range(layers))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class VisionTransformer(nn.Module):
    """Pixels [N, 3, H, W] -> vectors [N, output_dim], not normalised; states [N, width] where `proj` is None."""

    def __init__(
        self, input_resolution: int, patch_size: int, width: int, layers: int, heads: int, output_dim: int
    ):
        super().__init__()
        self.input_resolution, self.output_dim = input_resolution, output_dim
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        positions = (input_resolution // patch_size) ** 2 + 1
        self.positional_embedding = nn.Parameter(scale * torch.randn(positions, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads)
        self.ln_post = LayerNorm(width)
        self.proj: nn.Parameter | None = nn.Parameter(scale * torch.randn(width, output_dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([first, x], dim=1) + self.positional_embedding.to(x.dtype)
        x = self.transformer(self.ln_pre(x).transpose(0, 1)).transpose(0, 1)
        x = self.ln_post(x[:, 0])
        return x if self.proj is None else x @ self.proj


class AttentionPool2d(resnet.AttentionPool2d):
    """A feature map [N, embed_dim, H, W] -> [N, output_dim], in the format of the map."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).type(x.dtype)


class ModifiedResNet(resnet.ModifiedResNet):
    """Pixels [N, 3, H, W] -> vectors [N, output_dim], not normalised."""

    pool = AttentionPool2d

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(x.type(self.conv1.weight.dtype))[0]


class CLIP(nn.Module):
    """Both encoders; the arguments are OpenAI's. vision_layers: a number for a ViT, four numbers for a ResNet."""

    def __init__(
        self,
        embed_dim: int,
        image_resolution: int,
        vision_layers: int | Sequence[int],
        vision_width: int,
        vision_patch_size: int | None,
        context_length: int,
        vocab_size: int,
        transformer_width: int,
        transformer_heads: int,
        transformer_layers: int,
    ):
        super().__init__()
        self.context_length, self.vocab_size = context_length, vocab_size
        self.visual: VisionTransformer | ModifiedResNet
        if isinstance(vision_layers, int):
            self.visual = VisionTransformer(
                image_resolution,
                vision_patch_size or 0,
                vision_width,
                vision_layers,
                vision_width // 64,
                embed_dim,
            )
        else:
            heads = vision_width * 32 // 64
            self.visual = ModifiedResNet(
                tuple(vision_layers), embed_dim, heads, image_resolution, vision_width
            )
        mask = self.build_attention_mask()
        self.transformer = Transformer(transformer_width, transformer_layers, transformer_heads, mask)
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.initialize_parameters()

    def initialize_parameters(self) -> None:
        """Give all weights but the ViT's their random start. Source: CLIP's code, as in GPT-2."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        if isinstance(self.visual, ModifiedResNet):
            pool = self.visual.attnpool
            for layer in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
                nn.init.normal_(layer.weight, std=pool.c_proj.in_features**-0.5)
            for name, parameter in self.visual.named_parameters():
                if name.endswith("bn3.weight") and name.startswith("layer"):
                    nn.init.zeros_(parameter)
        width, small = self.transformer.width, (2 * self.transformer.layers) ** -0.5
        for block in self.transformer.resblocks:
            assert isinstance(block, ResidualAttentionBlock)
            fc, proj = block.mlp.get_submodule("c_fc"), block.mlp.get_submodule("c_proj")
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * small)
            nn.init.normal_(fc.get_parameter("weight"), std=(2 * width) ** -0.5)
            nn.init.normal_(proj.get_parameter("weight"), std=width**-0.5 * small)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def build_attention_mask(self) -> Tensor:
        """[context_length, context_length]: minus infinity where a position would see a later one, else 0."""
        # Not a buffer, as in the original: averaging buffers would turn its infinities into NaN.
        return torch.full((self.context_length,) * 2, float("-inf"), device="cpu").triu(1)

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.conv1.weight.dtype

    def encode_image(self, image: Tensor) -> Tensor:
        """Prepared pictures [N, 3, H, W] -> vectors [N, embed_dim] in the model's dtype, not normalised."""
        return self.visual(image.type(self.dtype))

    def encode_text(self, text: Tensor) -> Tensor:
        """Tokens [N, context_length] -> vectors [N, embed_dim] in the model's dtype, not normalised."""
        x = self.token_embedding(text).type(self.dtype) + self.positional_embedding.type(self.dtype)
        x = self.transformer(x.transpose(0, 1)).transpose(0, 1)
        x = self.ln_final(x).type(self.dtype)
        end = text.argmax(dim=-1)[:, None, None]  # the end of a text has the highest id
        return x.gather(1, end.expand(-1, 1, x.shape[-1]))[:, 0] @ self.text_projection

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """How well N pictures and M texts fit, logits for a softmax: per picture [N, M] and per text [M, N]."""
        images, texts = self.encode_image(image), self.encode_text(text)
        images = images / images.norm(dim=1, keepdim=True)
        texts = texts / texts.norm(dim=1, keepdim=True)
        per_image = self.logit_scale.exp() * images @ texts.t()
        return per_image, per_image.t()


def convert_weights(model: nn.Module) -> None:
    """Make the weights of convolutions, linear layers, attention and projections float16; all others stay."""
    for module in model.modules():
        names = ["text_projection", "proj"]
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            names += ["weight", "bias"]
        if isinstance(module, nn.MultiheadAttention):
            names += ["in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias"]
            names += ["bias_k", "bias_v"]
        for name in names:
            weight = getattr(module, name, None)
            if isinstance(weight, Tensor):
                weight.data = weight.data.half()


def build_model(state_dict: Mapping[str, Tensor]) -> CLIP:
    """The model of a state dict in the format that OpenAI published: `convert_weights`, in eval mode.

    Raises ValueError naming up to five weights that do not fit, or for what is no CLIP with an image encoder.
    """
    model = exact_model(state_dict)
    convert_weights(model)
    return model


def exact_model(state_dict: Mapping[str, Tensor]) -> CLIP:
    """As `build_model`, in float32."""
    weights = {key: value for key, value in state_dict.items() if key not in NOT_WEIGHTS}
    sizes = sizes_of(weights)
    if not sizes["vision_layers"]:
        raise ValueError("these weights have no image encoder; give all of a CLIP")
    # The others are always the same in OpenAI's.
    asked = {name: sizes[name] for name in signature(CLIP).parameters if name in sizes}
    with torch.device("meta"):
        model = CLIP(**asked)
    return load_original(model, weights)
