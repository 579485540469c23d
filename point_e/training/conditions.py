"""What a network of points is told of a sample: a frozen CLIP's vector or patch grid of its picture, or its caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from PIL.Image import Image
from torch import Tensor

from ...clip.training.pairs import caption_in
from ...diffusion.training.clip_conditions import ClipConditions
from ...training import Shards
from ..text_grid import text_grid


class PointConditions:
    """kind: the network's conditioning, "none", "vector" or "grid". clip: what ClipModel.from_pretrained takes.

    text_share: the share of samples that are told of by their caption: its vector, or in place of a picture's grid its
    states. Raises what ClipModel raises, and ValueError where that CLIP has no such grid or states.
    """

    def __init__(self, kind: str, clip: str, text_share: float):
        self.kind, self.text_share = kind, text_share
        self.clip: Any = ClipConditions(clip) if kind != "none" else None
        if kind != "grid":
            return
        config = self.clip.encoder.config
        if not config["vision_patch_size"] or not config["vision_layers"]:
            raise ValueError(f"the CLIP {clip} has no grid of patches; give a ViT, or conditioning: vector")
        self.width = config["vision_width"]
        self.tokens = (config["image_resolution"] // config["vision_patch_size"]) ** 2
        if text_share and config["transformer_width"] != self.width:
            raise ValueError(
                f"text_share needs a CLIP whose texts are as wide as its grid, but {clip} has "
                f"{config['transformer_width']} and {self.width} channels; set it to 0, or take conditioning: vector"
            )

    def layout(self) -> dict[str, Any]:
        """The arguments of the networks that CLIP settles."""
        return {} if not self.clip else {"clip_width": self.width if self.kind == "grid" else self.clip.dim}

    def parts(self) -> dict[str, Any]:
        """The parts of a model folder beside the trained network."""
        return self.clip.parts() if self.clip else {}

    def check(self, shards: Shards) -> None:
        """Raises ValueError for cached vectors that are another CLIP's or not everywhere."""
        if self.kind == "vector" and self.text_share < 1:
            self.clip.check(shards)

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """What `arguments` needs of a raw sample. Raises what ClipConditions raises."""
        told: dict[str, Any] = {}
        if self.clip and self.text_share:
            tokens, lengths = self._tokens([caption_in(sample)])
            told |= {"tokens": tokens[0], "length": lengths[0]}
        if self.clip and self.text_share < 1:
            told |= {"pixels": self.clip.pixels(sample)} if self.kind == "grid" else self.clip.picture(sample)
        return told

    def arguments(
        self, batch: dict[str, Tensor], generator: torch.Generator, drop: float
    ) -> dict[str, Tensor]:
        """The network's argument for a batch of what `prepare` gives, zeros for the share `drop` of its samples."""
        if not self.clip:
            return {}
        drawn = torch.rand(2, len(next(iter(batch.values()))), generator=generator)
        by_text = drawn[0] < self.text_share
        kinds = ((by_text, self._of_texts), (~by_text, self._of_pictures))
        rows = [some.nonzero()[:, 0] for some, _ in kinds]
        told = [of(_rows(batch, some)) for some, (_, of) in zip(rows, kinds, strict=True) if len(some)]
        device = told[0].device
        told = torch.cat(told)[torch.cat(rows).argsort().to(device)]
        kept = (drawn[1] >= drop).to(device)
        return self._named(told * kept.view(-1, *(1,) * (told.dim() - 1)))

    def of_pictures(self, pictures: Sequence[Image]) -> dict[str, Tensor]:
        """The network's argument for pictures."""
        pixels = torch.stack([self.clip.preprocess(picture) for picture in pictures])
        return self._named(self._of_pictures({"pixels": pixels.to(self.clip.encoder.device)}))

    def of_texts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The network's argument for texts."""
        tokens, lengths = (part.to(self.clip.encoder.device) for part in self._tokens(texts))
        return self._named(self._of_texts({"tokens": tokens, "length": lengths}))

    def _named(self, told: Tensor) -> dict[str, Tensor]:
        return {"grid" if self.kind == "grid" else "embedding": told}

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        context = self.clip.encoder.config["context_length"]
        return self.clip.tokenizer.with_lengths(texts, context, truncate=True)

    @torch.no_grad()
    def _of_pictures(self, batch: dict[str, Tensor]) -> Tensor:
        if self.kind == "vector":
            return F.normalize(self.clip.vectors(batch), dim=-1)
        grid = self.clip.encoder.encode_image(batch["pixels"]).grid
        return rearrange(grid, "n tokens width -> n width tokens")

    @torch.no_grad()
    def _of_texts(self, batch: dict[str, Tensor]) -> Tensor:
        features = self.clip.encoder.encode_text(batch["tokens"], with_states=self.kind == "grid")
        if self.kind == "vector":
            return F.normalize(features.vector, dim=-1)
        return text_grid(features.states, batch["length"], self.tokens)


def _rows(batch: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: value[rows.to(value.device)] for name, value in batch.items()}
