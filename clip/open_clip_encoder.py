"""open_clip's own networks behind `ClipEncoder`'s interface, for the architectures that it does not build."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..weights.load_original import load_original
from .features import ImageFeatures, TextFeatures
from .open_clip_config import CONFIG, WEIGHTS, OpenClipConfig

POSITIONS = "text.transformer.embeddings.position_ids"  # that transformers kept among the weights before 4.31


class OpenClipEncoder(nn.Module):
    """A model that open_clip builds (EVA02, ConvNeXt, CoCa, MobileCLIP, PE, ViTamin, CLIPA, XLM-R, NLLB, …).

    architecture: open_clip's "model_cfg"; pictures: its "preprocess_cfg". config: what those around an encoder want to
    know, as that of a `ClipEncoder`. Texts have vectors but no states. Raises ValueError for pictures that are not
    square, and what open_clip, timm and transformers raise.
    """

    def __init__(self, architecture: Mapping[str, Any], pictures: Mapping[str, Any]):
        super().__init__()
        said = OpenClipConfig("a model of open_clip's", architecture, pictures)
        self.architecture, self.pictures = dict(architecture), said.pictures()
        self.config = {"context_length": architecture["text_cfg"].get("context_length", 77), **self.pictures}
        self.model = build(architecture)

    @classmethod
    def from_original(
        cls, state_dict: Mapping[str, Tensor], architecture: Mapping[str, Any], pictures: Mapping[str, Any]
    ) -> OpenClipEncoder:
        """The network of the checkpoint that open_clip loads into this architecture, float32, in eval mode.

        Raises ValueError naming up to five missing, extra or misshapen keys.
        """
        from open_clip.convert import convert_state_dict
        from open_clip.model import convert_to_custom_text_state_dict

        net = cls(architecture, pictures)
        weights: dict[str, Tensor] = convert_state_dict(net.model, dict(state_dict))
        if not hasattr(net.model, "positional_embedding"):
            weights = convert_to_custom_text_state_dict(weights)
        weights.pop(POSITIONS, None)
        for name in ("logit_scale", "logit_bias"):
            if name in weights:
                weights[name] = weights[name].reshape(getattr(net.model, name).shape)
        load_original(net.model, weights)
        return net.eval()

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write a folder in open_clip's own layout, in the present format; open_clip reads it as "local-dir:FOLDER"."""
        words = {"image_mean": "mean", "image_std": "std", "image_resolution": "size"}
        pictures = {words.get(key, key): value for key, value in self.pictures.items() if key != "embed_dim"}
        content = {"model_cfg": self.architecture, "preprocess_cfg": pictures}
        (Path(folder) / CONFIG).write_text(json.dumps(content, indent=2), encoding="utf-8")
        weights = {key: value.contiguous() for key, value in self.model.state_dict().items()}
        save_file(weights, Path(folder) / WEIGHTS[0])

    @property
    def device(self) -> torch.device:
        return self.logit_scale.device

    @property
    def logit_scale(self) -> nn.Parameter:
        return self.model.logit_scale

    @property
    def logit_bias(self) -> nn.Parameter | None:
        return self.model.logit_bias

    def encode_image(self, pixels: Tensor, with_grid: bool = True) -> ImageFeatures:
        """As `ClipEncoder.encode_image`; the grid, before the last norm, is None for a tower without patch tokens."""
        side = self.config["image_resolution"]
        if pixels.dim() != 4 or pixels.shape[1:] != (3, side, side):
            raise ValueError(f"pixels have shape {tuple(pixels.shape)}; expected [N, 3, {side}, {side}]")
        pixels = pixels.to(next(self.model.visual.parameters()).dtype)
        if not with_grid or not _has_tokens(self.model.visual):
            return ImageFeatures(self.model.encode_image(pixels, normalize=False).float(), None)
        found = self.model.forward_intermediates(
            pixels, image_indices=1, image_output_fmt="NLC", normalize=False
        )
        return ImageFeatures(found["image_features"].float(), found["image_intermediates"][0])

    def encode_text(self, tokens: Tensor, with_states: bool = False) -> TextFeatures:
        """As `ClipEncoder.encode_text`, without states."""
        if with_states:
            raise ValueError("a network of open_clip's gives vectors of texts, but no states")
        return TextFeatures(self.model.encode_text(tokens, normalize=False).float(), None)


def build(architecture: Mapping[str, Any]) -> Any:
    """open_clip's module of a "model_cfg", its weights random. Nothing but a transformers config is downloaded."""
    from open_clip import CLIP, CoCa, CustomTextCLIP

    arguments = deepcopy(dict(architecture))
    vision, text = dict(arguments["vision_cfg"]), dict(arguments["text_cfg"])
    # No weights of single towers: those of the whole follow.
    vision["timm_model_pretrained"], text["hf_model_pretrained"] = False, False
    custom = arguments.pop("custom_text", False) or bool(text.get("hf_model_name"))
    kind = (CoCa if "multimodal_cfg" in arguments else CustomTextCLIP) if custom else CLIP
    return kind(**{**arguments, "vision_cfg": vision, "text_cfg": text})


def _has_tokens(tower: nn.Module) -> bool:
    """Whether an image tower is a transformer over patches to its end."""
    from open_clip.transformer import VisionTransformer
    from timm.models import Eva
    from timm.models import VisionTransformer as TimmTransformer

    return isinstance(tower, VisionTransformer) or isinstance(
        getattr(tower, "trunk", None), (Eva, TimmTransformer)
    )
