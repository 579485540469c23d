"""The shared encoder: pictures and texts -> vectors in one space, with the grid and the states behind them."""

import math
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..layers import Transformer
from ..weights.load_original import check_config_keys, load_original
from ..weights.read_weights import NOT_WEIGHTS
from .features import ImageFeatures, TextFeatures
from .preprocess import OPENAI_MEAN, OPENAI_STD
from .resnet import ModifiedResNet
from .siglip import NORM_EPS, SiglipVision, siglip_keys
from .training.gradient_cache import in_chunks
from .transformer import VisionTransformer, project

MAX_LOGIT_SCALE = math.log(100)


class ClipEncoder(ModelMixin, ConfigMixin):
    """CLIP's image and text towers. Source: CLIP (Radford et al. 2021), section 2; openai/CLIP, open_clip.

    The arguments are OpenAI's, and what open_clip's models differ in: channels of a head and of the feed-forward
    half (default four times the width), activation ("quick_gelu", "gelu" or "gelu_tanh"; text_activation: where that of
    the text tower is another one), sigmoid (whether there is that loss's bias), and how pictures are prepared (mean and
    deviation of channels, "bicubic" or "bilinear", "shortest", "squash" or "longest"). vision_layers is a number for a
    ViT and four numbers for a ResNet, which has no vision_patch_size; 0: it reads texts only, as the CLIP beside a
    published unCLIP does. siglip: a ViT as SigLIP's and SigLIP2's, whose vector a learned query collects from the
    patches, and a text tower in which all tokens see each other and the last, padding or not, gives the vector.
    Raises ValueError for sizes that do not go together.
    """

    @register_to_config
    def __init__(
        self,
        embed_dim: int = 512,
        image_resolution: int = 224,
        vision_layers: int | Sequence[int] = 12,
        vision_width: int = 768,
        vision_patch_size: int | None = 32,
        context_length: int = 77,
        vocab_size: int = 49408,
        transformer_width: int = 512,
        transformer_heads: int = 8,
        transformer_layers: int = 12,
        vision_head_width: int = 64,
        vision_mlp_width: int | None = None,
        transformer_mlp_width: int | None = None,
        activation: str = "quick_gelu",
        text_activation: str | None = None,
        siglip: bool = False,
        sigmoid: bool = False,
        image_mean: Sequence[float] = OPENAI_MEAN,
        image_std: Sequence[float] = OPENAI_STD,
        interpolation: str = "bicubic",
        resize_mode: str = "shortest",
    ):
        super().__init__()
        _check(
            transformer_width % transformer_heads == 0,
            f"transformer_width {transformer_width} is no multiple of transformer_heads {transformer_heads}",
        )
        self.visual: Any = None
        if vision_layers == 0:
            pass
        elif isinstance(vision_layers, int):
            _check(bool(vision_patch_size), "a ViT needs a vision_patch_size")
            _check(
                vision_width % vision_head_width == 0,
                f"vision_width {vision_width} is no multiple of vision_head_width {vision_head_width}",
            )
            sizes = (image_resolution, vision_patch_size or 0, vision_width, vision_layers)
            sizes = (*sizes, vision_width // vision_head_width, vision_mlp_width)
            if siglip:
                _check(vision_width == embed_dim, "SigLIP's vision_width is its embed_dim")
                self.visual = SiglipVision(*sizes, activation)
            else:
                self.visual = VisionTransformer(*sizes, embed_dim, activation)
        else:
            self.visual = ModifiedResNet(
                tuple(vision_layers), embed_dim, vision_width // 2, image_resolution, vision_width
            )
        self.transformer = Transformer(
            transformer_width,
            transformer_layers,
            transformer_heads,
            mlp_width=transformer_mlp_width,
            activation=text_activation or activation,
            causal=not siglip,
            per_head=False,
            eps=NORM_EPS if siglip else 1e-5,
        )
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(context_length, transformer_width))
        self.ln_final = nn.LayerNorm(transformer_width, NORM_EPS if siglip else 1e-5)
        self.text_projection = nn.Parameter(
            transformer_width**-0.5 * torch.randn(transformer_width, embed_dim)
        )
        self.text_projection_bias = nn.Parameter(torch.zeros(embed_dim)) if siglip else None
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        # What the sigmoid loss adds to the scaled products.
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if sigmoid else None
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    @classmethod
    def from_original(cls, state_dict: Mapping[str, Tensor], config: dict | None = None) -> "ClipEncoder":
        """The network of one of OpenAI's or open_clip's state dicts, float32, in eval mode.

        config: what shapes cannot tell (heads, activation, preparation), in the vocabulary of the arguments.
        Raises ValueError naming unknown config keys, or up to five missing, extra or misshapen weights, or for what is
        no CLIP at all.
        """
        config = config or {}
        check_config_keys(config, signature(cls).parameters)
        weights = {_our_key(key): value for key, value in state_dict.items() if key not in NOT_WEIGHTS}
        if "visual.trunk.attn_pool.latent" in weights:
            weights = siglip_keys(weights)
        with torch.device("meta"):
            net = cls(**{**sizes_of(weights), **config})
        return load_original(net, weights)

    def encode_image(self, pixels: Tensor, with_grid: bool = True) -> ImageFeatures:
        """Vectors and patch tokens of prepared pictures [N, 3, H, W] (see Preprocess), in one pass.

        Without the grid the last block is computed for the vector alone. Raises ValueError for another shape.
        """
        if self.visual is None:
            raise ValueError(
                "this CLIP reads texts only; take a model with an image encoder to read pictures"
            )
        side = self.config["image_resolution"]
        if pixels.dim() != 4 or pixels.shape[1:] != (3, side, side):
            raise ValueError(f"pixels have shape {tuple(pixels.shape)}; expected [N, 3, {side}, {side}]")
        return ImageFeatures(*self.visual(pixels.to(self._format), with_grid))

    def encode_text(self, tokens: Tensor, with_states: bool = True) -> TextFeatures:
        """Vectors and states of tokens [N, length], at most context_length, in one pass.

        The vector is read where the highest id, the text's end, first stands, in SigLIP at the last place. Without the
        states the padding after the longest text is left out, if tokens do not see later ones, and the last block is
        computed for the vector alone; the vector is the same. Raises ValueError for another shape or an id outside of
        the vocabulary.
        """
        most, known = self.config["context_length"], self.config["vocab_size"]
        if tokens.dim() != 2 or not 0 < tokens.shape[1] <= most:
            raise ValueError(f"tokens have shape {tuple(tokens.shape)}; expected [N, 1 to {most}]")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < known:
            raise ValueError(
                f"tokens reach from {tokens.min()} to {tokens.max()}; the vocabulary has {known}"
            )
        end = tokens.argmax(dim=-1)
        if self.config["siglip"]:
            end = torch.full_like(end, tokens.shape[1] - 1)
        if not with_states and len(tokens):
            tokens = tokens[:, : int(end.max()) + 1]
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        if not with_states:
            x = self.transformer(x, only=end)
            return TextFeatures(self._projected(x[:, 0]), None)
        x = self.transformer(x)
        at_end = x[torch.arange(len(x), device=x.device), end]
        return TextFeatures(self._projected(at_end), self.ln_final(x))

    def forward(
        self,
        pixels: Tensor | None = None,
        tokens: Tensor | None = None,
        other_tokens: Tensor | None = None,
        chunk: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What a contrastive loss compares: two batches of vectors of length 1, and how cosines become logits.

        Of pictures and texts or, without pictures, of other texts and texts: [N, embed_dim] twice, the factor
        (at most 100, as in CLIP's section 2.5) and the bias, None where the model has none.
        chunk: how many rows to compute at a time with gradient caching; 0: all at once.
        """
        if tokens is None or (pixels is None) == (other_tokens is None):
            raise ValueError("give pixels and tokens, or tokens and other_tokens")
        texts = in_chunks(self, _text_vectors, tokens, chunk)
        if pixels is not None:
            others = in_chunks(self, _image_vectors, pixels, chunk)
        else:
            assert other_tokens is not None
            others = in_chunks(self, _text_vectors, other_tokens, chunk)
        return others, texts, self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp(), self.logit_bias

    def _projected(self, x: Tensor) -> Tensor:
        x, bias = project(x, self.ln_final, self.text_projection), self.text_projection_bias
        return x if bias is None else x + bias.float()

    @property
    def _format(self) -> torch.dtype:
        return self.token_embedding.weight.dtype


def _our_key(key: str) -> str:
    """The key that a weight of the original's has here, where the first product is a layer of its own."""
    return key.replace(".attn.in_proj_", ".attn.c_qkv.").replace(".attn.out_proj.", ".attn.c_proj.")


def _image_vectors(encoder: ClipEncoder, pixels: Tensor) -> Tensor:
    return F.normalize(encoder.encode_image(pixels, with_grid=False).vector, dim=-1)


def _text_vectors(encoder: ClipEncoder, tokens: Tensor) -> Tensor:
    return F.normalize(encoder.encode_text(tokens, with_states=False).vector, dim=-1)


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(f"these sizes make no CLIP: {problem}")


def sizes_of(weights: Mapping[str, Tensor]) -> dict:
    """The sizes that shapes tell; head sizes are those of the published models."""
    try:
        text_width = weights["ln_final.weight"].shape[0]
        sizes = {
            "embed_dim": weights["text_projection"].shape[1],
            "context_length": weights["positional_embedding"].shape[0],
            "vocab_size": weights["token_embedding.weight"].shape[0],
            "transformer_width": text_width,
            "transformer_heads": max(1, text_width // 64),
            "transformer_layers": _count(weights, "transformer.resblocks.", 2),
            "transformer_mlp_width": weights["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "sigmoid": "logit_bias" in weights,
        }
        if not any(key.startswith("visual.") for key in weights):
            return sizes | {"vision_layers": 0}
        if "visual.attnpool.positional_embedding" in weights:
            stages = [_count(weights, f"visual.layer{number}.", 2) for number in (1, 2, 3, 4)]
            positions = weights["visual.attnpool.positional_embedding"].shape[0] - 1
            width = weights["visual.layer1.0.conv1.weight"].shape[0]
            return sizes | {
                "vision_layers": stages,
                "vision_width": width,
                "vision_patch_size": None,
                "image_resolution": 32 * math.isqrt(positions),
            }
        siglip = "visual.attn_pool.latent" in weights
        width, _, patch, _ = weights["visual.conv1.weight"].shape
        positions = weights["visual.positional_embedding"].shape[0] - (not siglip)
        return sizes | {
            "siglip": siglip,
            "vision_layers": _count(weights, "visual.transformer.resblocks.", 3),
            "vision_width": width,
            "vision_patch_size": patch,
            "vision_mlp_width": weights["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "image_resolution": patch * math.isqrt(positions),
        }
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"these weights are no CLIP, or of a kind that needs its config: {error} is missing or misshapen; give "
            "OpenAI's or an open_clip ViT, ResNet or SigLIP checkpoint, or say config='ARCHITECTURE/TAG'"
        ) from None


def _count(weights: Mapping[str, Tensor], prefix: str, position: int) -> int:
    return len({key.split(".")[position] for key in weights if key.startswith(prefix)})
