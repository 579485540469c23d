"""GLIDE's tokenizer: byte-level BPE on lower-cased text, padded to the network's context."""

import gzip
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from ..weights.noted import noted
from ..weights.write_whole import write_whole


class GlideTokenizer:
    """Texts -> token ids and a mask for `GlideUNet`. Any Unicode text is legal.

    vocab_size: the number of entries; padding_id: the last of them.
    Source: GPT-2's byte-level BPE (Radford et al. 2019) as glide-text2im uses it.
    """

    def __init__(self, tokenizer: Tokenizer):
        lacking = set(pre_tokenizers.ByteLevel.alphabet()) - tokenizer.get_vocab().keys()
        if lacking:
            raise ValueError(
                f"the tokenizer lacks {len(lacking)} of the 256 bytes; it needs a byte-level vocabulary"
            )
        # Someone's "<|endoftext|>" is text like any other.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        self.padding_id = self.vocab_size - 1

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "GlideTokenizer":
        """From a `tokenizer.json`.

        Raises OSError, what the tokenizers library does for another file, and ValueError for no byte-level vocabulary.
        """
        text = _read(path)
        with noted(f"{path} is not a tokenizer.json of the tokenizers library"):
            tokenizer = Tokenizer.from_str(text)
        return cls(tokenizer)

    @classmethod
    def from_files(cls, encoder: str | os.PathLike, merges: str | os.PathLike) -> "GlideTokenizer":
        """From GPT-2's `encoder.json` and `vocab.bpe`, either of them gzipped or not.

        Raises OSError, and what json and tokenizers do if they are not what their names say.
        """
        vocabulary = _read(encoder)
        pairs = [line.partition(" ") for line in _read(merges).splitlines()[1:] if line]
        with noted(f"{encoder} and {merges} are not GPT-2's encoder.json and vocab.bpe"):
            tokenizer = Tokenizer(BPE(json.loads(vocabulary), [(a, b) for a, _, b in pairs]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return cls(tokenizer)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a `tokenizer.json` that `from_file` reads."""
        with write_whole(path) as beside:
            beside.write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, neither padded nor truncated."""
        return self.tokenizer.encode(_clean(text)).ids

    def with_mask(self, texts: Sequence[str], context_length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens int64 [N, context_length] and their mask, bool likewise, True where there is text.

        Longer texts lose their end; `truncated_at` tells where.
        """
        tokens = torch.full((len(texts), context_length), self.padding_id)
        mask = torch.zeros_like(tokens, dtype=torch.bool)
        for row, text in enumerate(texts):
            ids = self.encode(text)[:context_length]
            tokens[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = True
        return tokens, mask

    def truncated_at(self, text: str, context_length: int) -> str | None:
        """The first word, lower-cased, that does not or not wholly fit; None if all words do."""
        text = _clean(text)
        offsets = self.tokenizer.encode(text).offsets
        if len(offsets) <= context_length:
            return None
        cut = offsets[context_length][0]
        return next((word.group() for word in re.finditer(r"\S+", text) if word.end() > cut), None)


def _clean(text: str) -> str:
    # An undecodable byte of a command line arrives as half a surrogate pair, which has no UTF-8.
    return text.lower().encode("utf-8", "replace").decode("utf-8")


def _read(path: str | os.PathLike) -> str:
    data = Path(path).read_bytes()
    with noted(f"{path} is damaged or no text; fetch it again"):
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
