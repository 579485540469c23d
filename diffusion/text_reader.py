"""Texts as a GLIDE network reads them: as tokens, or as the states of a frozen CLIP's text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..clip.encoder import ClipEncoder
from ..clip.tokenizer import ClipTokenizer
from .glide import GlideUNet
from .tokenizer import GlideTokenizer
from .unet import Conditioning


class TextReader:
    """What stands before `GlideUNet.encode_text`. encoder: None if the network has a vocabulary of its own."""

    def __init__(self, tokenizer: GlideTokenizer | ClipTokenizer, encoder: ClipEncoder | None = None):
        self.tokenizer, self.encoder = tokenizer, encoder

    def layout(self) -> dict[str, Any]:
        """The arguments of GlideUNet that are settled by who reads its texts."""
        if self.encoder is None:
            return {"n_vocab": self.tokenizer.vocab_size}
        return {"text_width": self.encoder.config["transformer_width"]}

    def parts(self) -> dict[str, Any]:
        """The parts of a model folder beside the network."""
        parts: dict[str, Any] = {"tokenizer": self.tokenizer}
        return parts if self.encoder is None else {**parts, "text_encoder": self.encoder}

    def tokens(self, texts: Sequence[str], context_length: int) -> tuple[Tensor, Tensor]:
        """Tokens int64 [N, context_length] and their mask, bool likewise; an empty text's is False everywhere."""
        return self.tokenizer.with_mask(texts, context_length)

    def encode(self, network: GlideUNet, texts: Sequence[str]) -> Conditioning:
        """What a network is told of each text; different ones are encoded once."""
        different = list(dict.fromkeys(texts))
        tokens, mask = self.tokens(different, network.config["text_ctx"])
        encoded = network.encode_text(**self.inputs(tokens.to(network.device), mask.to(network.device)))
        return encoded.rows(torch.tensor([different.index(text) for text in texts], device=network.device))

    @torch.no_grad()
    def inputs(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Arguments of `GlideUNet.encode_text`. Where a whole row of the mask is False, its text counts as empty."""
        kept = mask.any(dim=1, keepdim=True)
        if self.encoder is None:
            assert isinstance(self.tokenizer, GlideTokenizer)
            return {"tokens": torch.where(kept, tokens, self.tokenizer.padding_id), "mask": mask}
        states = self.encoder.encode_text(tokens).states
        assert states is not None
        return {"text_states": states * kept[..., None], "mask": mask}
