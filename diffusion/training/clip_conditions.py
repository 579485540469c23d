"""What stages of unCLIP and Point-E learn from and are told: a frozen CLIP's vectors of pictures, and its texts."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip.encoder import ClipEncoder
from ...clip.model import ClipModel
from ...clip.preprocess import Preprocess
from ...clip.training.pairs import caption_in, picture_in
from ...training import Shards
from ...training.data import load

CACHED = "clip.npy"  # beside a picture in a shard: its vector, float32 [clip_dim]
CHECKED = 4  # pictures whose cached vector is compared with a new one
SAME = 0.98  # cosine: two formats of one CLIP are nearer, two CLIPs are not
FOR_STATISTICS = 20_000  # samples that statistics are taken of, if their vectors are cached
COMPUTED_FOR_STATISTICS = 1_000  # the same, if vectors have to be computed
BATCH = 64
PROBE = "a red chair"  # what two CLIPs read to tell whether they are one


class ClipConditions:
    """A frozen CLIP beside a stage. name: what ClipModel.from_pretrained takes, and raises for."""

    def __init__(self, name: str):
        self.name = name
        clip = ClipModel.from_pretrained(name, dtype=torch.float32, device="cpu")
        self.encoder = clip.own_encoder(with_states=True)
        self.tokenizer, self.preprocess = clip.tokenizer, clip.preprocess
        self.dim = clip.dim

    def layout(self, text_ctx: int) -> dict[str, Any]:
        """The arguments of unCLIP's networks that CLIP settles. Raises ValueError if it reads fewer tokens."""
        most = self.encoder.config["context_length"]
        if text_ctx > most:
            raise ValueError(f"text_ctx is {text_ctx}, but {self.name} reads {most} tokens; lower it")
        return {"clip_dim": self.dim, "text_width": self.encoder.config["transformer_width"]}

    def parts(self) -> dict[str, Any]:
        """The parts of a model folder beside the trained network."""
        return {"clip": self.encoder, "tokenizer": self.tokenizer}

    @torch.no_grad()
    def check_same(self, model: str, encoder: ClipEncoder) -> None:
        """Raises ValueError unless the encoder of `model` reads as this CLIP does."""
        length = min(each.config["context_length"] for each in (self.encoder, encoder))
        tokens = self.tokenizer([PROBE], length)
        ours, theirs = (
            each.encode_text(tokens, with_states=False).vector.float() for each in (self.encoder, encoder)
        )
        if ours.shape != theirs.shape or F.cosine_similarity(ours, theirs).item() < SAME:
            raise ValueError(f"{model} reads with another CLIP than {self.name}; name that one as clip:")

    def prepare(self, sample: dict[str, Any], text_ctx: int) -> dict[str, Any]:
        """A raw sample -> tokens int64 [text_ctx], their number, and `embedding` [clip_dim] if cached, else `pixels`.

        Raises ValueError for a cached vector of another shape.
        """
        tokens, lengths = self.tokenizer.with_lengths([caption_in(sample)], text_ctx, truncate=True)
        return {"tokens": tokens[0], "length": lengths[0], **self.picture(sample)}

    def picture(self, sample: dict[str, Any]) -> dict[str, Any]:
        """A raw sample -> `embedding` or `pixels`, as `prepare`."""
        if CACHED not in sample:
            return {"pixels": self.pixels(sample)}
        vector = np.load(io.BytesIO(sample[CACHED]), allow_pickle=False)
        if vector.shape != (self.dim,):
            raise ValueError(
                f"its {CACHED} has shape {vector.shape}, but the vectors of {self.name} have {self.dim} numbers; "
                f"make the shards again with that CLIP"
            )
        return {"embedding": torch.from_numpy(vector.astype(np.float32))}

    def pixels(self, sample: dict[str, Any]) -> Tensor:
        """A raw sample's picture as CLIP sees it. Raises what `picture_in` raises."""
        return pixels_of(sample, self.preprocess)

    @torch.no_grad()
    def vectors(self, batch: dict[str, Any]) -> Tensor:
        """A batch of what `picture` gives -> CLIP's vectors [N, clip_dim], unnormalised."""
        if "embedding" in batch:
            return batch["embedding"]
        return self.encoder.encode_image(batch["pixels"], with_grid=False).vector

    @torch.no_grad()
    def texts(self, tokens: Tensor, lengths: Tensor, kept: Tensor | None = None) -> dict[str, Tensor]:
        """The networks' arguments of texts: tokens [N, text_ctx], of which `lengths` [N] are no padding.

        kept: bool [N]; the others are read as empty texts.
        """
        if kept is not None:
            empty, one = self.tokenizer.with_lengths([""], tokens.shape[1])
            tokens = torch.where(kept[:, None], tokens, empty.to(tokens))
            lengths = torch.where(kept, lengths, one.to(lengths))
        vector, states = self.encoder.encode_text(tokens)
        assert states is not None
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        return {"text_embedding": vector, "text_states": states, "mask": mask}

    @torch.no_grad()
    def check(self, shards: Shards) -> bool:
        """Whether vectors are cached.

        Raises ValueError where some samples have cached vectors and others not, or they are another CLIP's.
        """
        cached = [CACHED in sample.parts for sample in shards.samples]
        if not any(cached):
            return False
        if not all(cached):
            without = shards.samples[cached.index(False)]
            raise ValueError(
                f"sample {without.key} of {without.shard} has no {CACHED} and others have; give shards of one kind"
            )

        def both(sample: dict[str, Any]) -> dict[str, Any]:
            return {"pixels": self.pixels(sample), **self.picture(sample)}

        seen = next(load(shards, both, [_spread(shards, CHECKED)], range(len(shards))))
        fresh = self.vectors({"pixels": seen["pixels"]})
        if F.cosine_similarity(fresh, seen["embedding"]).min() < SAME:
            raise ValueError(
                f"the {CACHED} in {shards.paths[0]} was not made by the CLIP {self.name}; "
                "make the shards again with that CLIP, or name the one that made them"
            )
        return True

    @torch.no_grad()
    def look_at(self, shards: Shards) -> tuple[Tensor, Tensor]:
        """Vectors [N, clip_dim] of pictures all over the shards, and of their texts, for statistics.

        Raises as `check`.
        """
        numbers = _spread(shards, FOR_STATISTICS if self.check(shards) else COMPUTED_FOR_STATISTICS)
        batches = [numbers[first : first + BATCH] for first in range(0, len(numbers), BATCH)]
        most = self.encoder.config["context_length"]
        pictures, texts = [], []
        for batch in load(shards, partial(self.prepare, text_ctx=most), batches, range(len(shards))):
            pictures.append(self.vectors(batch))
            texts.append(self.encoder.encode_text(batch["tokens"], with_states=False).vector)
        return torch.cat(pictures), torch.cat(texts)


def pixels_of(sample: dict[str, Any], preprocess: Preprocess) -> Tensor:
    """A raw sample's picture as an encoder expects it. Raises what `picture_in` raises."""
    return preprocess(picture_in(sample))


def _spread(shards: Shards, count: int) -> list[int]:
    """Numbers of `count` samples evenly all over the shards, of all if there are fewer."""
    return np.linspace(0, len(shards) - 1, min(count, len(shards))).astype(int).tolist()
