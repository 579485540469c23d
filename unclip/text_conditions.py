"""What the prior and the decoder are told of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..clip.encoder import ClipEncoder
from ..clip.tokenizer import ClipTokenizer


class TextConditions(NamedTuple):
    """vector: CLIP's of each text [N, D], unnormalised; states [N, length, width]; mask: bool [N, length], True: a token.

    The start and the end of an empty text are tokens too: that is what guidance leans away from.
    """

    vector: Tensor
    states: Tensor
    mask: Tensor

    def rows(self, index: Tensor | slice) -> TextConditions:
        """Those of some of the texts, of some more than once perhaps."""
        return TextConditions(*(part[index] for part in self))

    def arguments(self) -> dict[str, Tensor]:
        """As the networks' arguments."""
        return {"text_embedding": self.vector, "text_states": self.states, "mask": self.mask}


@torch.no_grad()
def read_texts(
    clip: ClipEncoder, tokenizer: ClipTokenizer, texts: Sequence[str], context_length: int
) -> TextConditions:
    """The conditions of texts, different ones encoded once, on the encoder's device. A long text loses its end."""
    different = list(dict.fromkeys(texts))
    tokens, lengths = tokenizer.with_lengths(different, context_length, truncate=True)
    vector, states = clip.encode_text(tokens.to(clip.device))
    assert states is not None
    mask = (torch.arange(context_length) < lengths[:, None]).to(clip.device)
    index = torch.tensor([different.index(text) for text in texts], device=clip.device)
    return TextConditions(vector, states, mask).rows(index)


def joined(first: TextConditions, second: TextConditions) -> TextConditions:
    """Both, one after the other."""
    return TextConditions(*(torch.cat(pair) for pair in zip(first, second, strict=True)))
