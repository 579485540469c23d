"""CLIP's tokenizer: cleaned, lower-cased byte-level BPE between a start and an end token, padded with zeros."""

import gzip
import html
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import ftfy
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from .open_clip_package import open_clip_file

START, END = "<|startoftext|>", "<|endoftext|>"
# How OpenAI's tokenizer takes a text apart; what matches nowhere, which is white space, is dropped.
# The mark U+0345 is dropped too: ignoring case it equals the letter iota, so the original takes it for neither.
_PIECES = (
    r"<\|startoftext\|>|<\|endoftext\|>|(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"
)
# Texts that neither ftfy nor html.unescape would change, which are nearly all captions.
_PLAIN = re.compile(r"[ -%'-~\t\n]*").fullmatch


class TextTooLong(ValueError, RuntimeError):
    """A text has more tokens than fit. A ValueError as for all bad input, and the RuntimeError that OpenAI's raises.

    row: which of the texts it is; tokens: how many it has; room: how many fit beside start and end.
    """

    def __init__(self, message: str, row: int = 0, tokens: int = 0, room: int = 0):
        super().__init__(message)
        self.row, self.tokens, self.room = row, tokens, room


class ClipTokenizer:
    """Texts -> token ids for `ClipEncoder.encode_text`. Any Unicode text is legal.

    vocab_size: the number of entries. end_id: the highest id, where the encoder reads its vector. start_id: None where
    the vocabulary has no start token, as mini's. "<|endoftext|>" standing in a text is that id, as in the original.
    Source: github.com/openai/CLIP, clip/simple_tokenizer.py.
    """

    def __init__(self, tokenizer: Tokenizer):
        vocabulary = tokenizer.get_vocab()
        lacking = set(pre_tokenizers.ByteLevel.alphabet()) - vocabulary.keys()
        if lacking:
            raise ValueError(f"the tokenizer lacks {len(lacking)} of the 256 bytes; CLIP's is byte-level")
        highest = max(vocabulary.values())
        if vocabulary.get(END) != highest:
            raise ValueError(
                f"the tokenizer's highest id, {highest}, is not {END}, where CLIP reads a text's vector"
            )
        # What a text holds is found by the pieces below, as in the original, and not by the library, before them.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.vocab_size = highest + 1
        self.start_id: int | None = vocabulary.get(START)
        self.end_id: int = highest

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "ClipTokenizer":
        """From a `tokenizer.json`. Raises FileNotFoundError, or ValueError if it is not one."""
        data = Path(path).read_bytes()
        try:
            tokenizer = Tokenizer.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"{path} is not a tokenizer.json of the tokenizers library: {error}") from error
        return cls(tokenizer)

    @classmethod
    def openai(cls) -> "ClipTokenizer":
        """With the 49,408 entries of OpenAI's models and most of open_clip's, which open_clip carries."""
        merges = _openai_merges()
        alphabet = list(_byte_characters())
        entries = [
            *alphabet,
            *(c + "</w>" for c in alphabet),
            *("".join(pair) for pair in merges),
            START,
            END,
        ]
        model = BPE({entry: i for i, entry in enumerate(entries)}, merges, end_of_word_suffix="</w>")
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        return cls(tokenizer)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a `tokenizer.json` that `from_file` reads."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(self.tokenizer.to_str(), encoding="utf-8")
        partial.replace(path)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text without start and end, neither padded nor truncated."""
        text = clean(text)
        if START in text or END in text:
            return self._encode_with_special(text)
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def __call__(
        self, texts: str | Sequence[str], context_length: int = 77, truncate: bool = False
    ) -> torch.Tensor:
        """Tokens int64 [N, context_length]: start, the text's ids, end, then zeros.

        Raises TextTooLong, a ValueError, for a text that does not fit, unless `truncate`, which cuts it and keeps
        the end token.
        """
        return self.with_lengths(texts, context_length, truncate)[0]

    def with_lengths(
        self, texts: str | Sequence[str], context_length: int = 77, truncate: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens as above, and how many of each row are not padding, int64 [N], as GLIDE's noised CLIP wants them."""
        texts = [texts] if isinstance(texts, str) else texts
        room = context_length - 1 - (self.start_id is not None)
        if room < 0:
            raise ValueError(f"context_length {context_length} has no room for the start and end of a text")
        start = [] if self.start_id is None else [self.start_id]
        tokens = torch.zeros(len(texts), context_length, dtype=torch.int64)
        lengths = torch.zeros(len(texts), dtype=torch.int64)
        rows = tokens.numpy()
        for row, text in enumerate(texts):
            ids = self.encode(text)
            if len(ids) > room and not truncate:
                raise TextTooLong(
                    f"the text {_shortened(text)} has {len(ids)} tokens, and {room} fit beside start and end in "
                    f"context_length {context_length}; shorten it, or pass truncate=True to lose its end",
                    row,
                    len(ids),
                    room,
                )
            ids = [*start, *ids[:room], self.end_id]
            rows[row, : len(ids)] = ids
            lengths[row] = len(ids)
        return tokens, lengths

    def _encode_with_special(self, text: str) -> list[int]:
        special = {END: self.end_id} if self.start_id is None else {START: self.start_id, END: self.end_id}
        ids = []
        for piece, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(text):
            found = special.get(piece)
            ids += [token.id for token in self.tokenizer.model.tokenize(piece)] if found is None else [found]
        return ids


def clean(text: str) -> str:
    """A text as OpenAI's tokenizer cleans it: mojibake and HTML entities mended, white space single, lower case."""
    if not isinstance(text, str):
        raise ValueError(f"a text must be a string, got {type(text).__name__}")
    if not _PLAIN(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
        # An undecodable byte of a command line arrives as half a surrogate pair, which has no UTF-8.
        text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.split()).lower()


def _byte_characters() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes, in the order in which CLIP numbers them."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def _openai_merges() -> list[tuple[str, str]]:
    path = open_clip_file("bpe_simple_vocab_16e6.txt.gz")
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(
            f"{path} is damaged; reinstall it with: pip install --force-reinstall open_clip_torch"
        ) from error
    # After a line about the file: as many merges as fill 49,408 entries beside 2 × 256 bytes and two tokens.
    return [(a, b) for a, b in (line.split() for line in lines[1 : 49152 - 256 - 2 + 1])]


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
