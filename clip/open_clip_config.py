"""What open_clip says of a model, and that in `ClipEncoder`'s words where it is one that `ClipEncoder` builds."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .preprocess import OPENAI_MEAN, OPENAI_STD

if TYPE_CHECKING:
    from open_clip import CLIPTextCfg, CLIPVisionCfg

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# open_clip's settings that ClipEncoder follows, and those that change no vector of the models that it builds.
MODEL = {"embed_dim", "quick_gelu", "init_logit_bias", "init_logit_scale", "vision_cfg", "text_cfg"}
TOWERS = {
    "image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "context_length", "vocab_size", "heads",
    "hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode", "patch_dropout", "attn_pooler_queries",
    "attn_pooler_heads", "output_tokens", "pad_id", "eos_id",
}  # fmt: skip
# What SigLIP's towers have beside, and must have.
SIGLIP_VISION = {"timm_pool": "map", "timm_proj": "none"}
SIGLIP_TEXT = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
GELUS = {"None": "gelu", "{'approximate': 'tanh'}": "gelu_tanh"}
CUSTOM = {"custom_text"}
TIMM = {"image_size", "timm_model_name", "timm_model_pretrained", "timm_drop"}
SIGLIP_VIT = re.compile(r"vit_\w+_patch\d+_siglip_\d+")


@dataclass(frozen=True)
class OpenClipConfig:
    """What open_clip says of a model.

    name: what it was asked for as. model: its "model_cfg"; prepared: its "preprocess_cfg", or its entry in open_clip's
    table, which also says whether the weights were trained with quick GELU.
    """

    name: str
    model: Mapping[str, Any]
    prepared: Mapping[str, Any]

    @property
    def ours(self) -> bool:
        """Whether `ClipEncoder` builds it."""
        return self._clip() or self._siglip()

    def encoder(self) -> dict[str, Any]:
        """The arguments of the `ClipEncoder` that computes the same, if it is `ours`, but for what shapes tell."""
        from open_clip import CLIPTextCfg, CLIPVisionCfg

        vision, text = CLIPVisionCfg(**self.model["vision_cfg"]), CLIPTextCfg(**self.model["text_cfg"])
        if vision.timm_model_name:
            tower = {**_siglip_vit(vision.timm_model_name), "text_activation": GELUS[str(text.act_kwargs)]}
        else:
            tower = {
                "vision_layers": vision.layers,
                "vision_width": vision.width,
                "vision_patch_size": vision.patch_size,
                "vision_head_width": vision.head_width,
                "vision_mlp_width": _mlp_width(vision),
                "activation": "quick_gelu" if self._quick_gelu() else "gelu",
            }
        return {
            **tower,
            "context_length": text.context_length,
            "vocab_size": text.vocab_size,
            "transformer_width": text.width,
            "transformer_heads": text.heads,
            "transformer_layers": text.layers,
            "transformer_mlp_width": _mlp_width(text),
            "sigmoid": self.model.get("init_logit_bias") is not None,
            **self.pictures(),
        }

    def pictures(self) -> dict[str, Any]:
        """Sizes of vectors and pictures, and how these are prepared. Raises ValueError where they are no square."""
        size, mode = self.model["vision_cfg"].get("image_size", 224), self.prepared.get("mode", "RGB")
        if not isinstance(size, int) or mode != "RGB":
            raise ValueError(
                f"{self.name} wants pictures of {size} in {mode}; only square RGB ones are supported"
            )
        # What is not said of the pictures is as in OpenAI's models.
        said = {"mean": OPENAI_MEAN, "std": OPENAI_STD, "interpolation": "bicubic", "resize_mode": "shortest"}
        said |= {key: value for key, value in self.prepared.items() if key in said and value is not None}
        mean, std = (
            [value] * 3 if isinstance(value, (int, float)) else list(value)
            for value in (said["mean"], said["std"])
        )
        return {
            "embed_dim": self.model["embed_dim"],
            "image_resolution": size,
            "image_mean": mean,
            "image_std": std,
            "interpolation": said["interpolation"],
            "resize_mode": said["resize_mode"],
        }

    def warn_of_activation(self) -> None:
        """Say it where a name computes another activation than the weights were trained with, as in open_clip."""
        if self.prepared.get("quick_gelu") and not self._quick_gelu():
            architecture, _, tag = self.name.partition("/")
            warnings.warn(
                f"{self.name} was trained with quick GELU, and by this name it computes GELU, as in open_clip; "
                f"{architecture}-quickgelu/{tag} computes what it was trained with",
                stacklevel=5,
            )

    def _quick_gelu(self) -> bool:
        """As the architecture says; the table's weights of OpenAI are always computed as OpenAI does."""
        of_openai = self.name.endswith("/openai") and self.prepared.get("quick_gelu")
        return bool(self.model.get("quick_gelu") or of_openai)

    def _clip(self) -> bool:
        return not self._others(TOWERS, TOWERS)

    def _siglip(self) -> bool:
        vision, text = self.model["vision_cfg"], self.model["text_cfg"]
        return (
            SIGLIP_VIT.fullmatch(vision.get("timm_model_name") or "") is not None
            and all(vision.get(key) == value for key, value in SIGLIP_VISION.items())
            and all(text.get(key) == value for key, value in SIGLIP_TEXT.items())
            and str(text.get("act_kwargs")) in GELUS
            and not self._quick_gelu()
            and not self._others(
                TIMM | SIGLIP_VISION.keys(), TOWERS | SIGLIP_TEXT.keys() | {"act_kwargs"}, CUSTOM
            )
        )

    def _others(self, vision: Set[str], text: Set[str], model: Set[str] = frozenset()) -> list[str]:
        """The settings that differ from open_clip's defaults in more than what is named."""
        from open_clip import CLIPTextCfg, CLIPVisionCfg

        others = [key for key, value in self.model.items() if value and key not in MODEL | model]
        for known, tower in (
            (vision, CLIPVisionCfg(**self.model["vision_cfg"])),
            (text, CLIPTextCfg(**self.model["text_cfg"])),
        ):
            others += [
                field.name
                for field in fields(tower)
                if field.name not in known and getattr(tower, field.name) != field.default
            ]
        return others


def _siglip_vit(name: str) -> dict[str, Any]:
    """What shapes do not tell of timm's ViT of this name, which is said nowhere but in its code."""
    import timm

    with torch.device("meta"):
        vit: Any = timm.create_model(name, depth=1, num_classes=0, global_pool="map")
    block = vit.blocks[0]
    exact = isinstance(block.mlp.act, torch.nn.GELU) and block.mlp.act.approximate == "none"
    return {
        "siglip": True,
        "vision_head_width": vit.embed_dim // block.attn.num_heads,
        "activation": "gelu" if exact else "gelu_tanh",
    }


def _mlp_width(tower: CLIPVisionCfg | CLIPTextCfg) -> int | None:
    return None if tower.mlp_ratio == 4 else int(tower.width * tower.mlp_ratio)


def read_config(name: str, path: Path) -> OpenClipConfig:
    """What the `open_clip_config.json` of a Hub repository or beside a file says. Raises ValueError."""
    content = json.loads(path.read_text(encoding="utf-8"))
    model = content.get("model_cfg", {})
    lacking = {"embed_dim", "vision_cfg", "text_cfg"} - model.keys()
    if lacking:
        raise ValueError(
            f"the {CONFIG} of {name} describes no CLIP: its model_cfg lacks {', '.join(sorted(lacking))}"
        )
    return OpenClipConfig(name, model, content.get("preprocess_cfg", {}))
