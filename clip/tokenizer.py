"""CLIP's tokenizer: cleaned, lower-cased byte-level BPE between a start and an end token, padded with zeros."""

import html
import os
import re
from collections.abc import Sequence
from pathlib import Path

import ftfy
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from ..weights.write_whole import write_whole

START, END = "<|startoftext|>", "<|endoftext|>"
# How OpenAI's tokenizer splits a text; white space between the pieces is dropped. So is the mark U+0345: the original
# ignores case, and then this mark equals the letter iota and matches neither letters nor other characters.
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
        # _PIECES finds the special tokens that stand in a text, where the original does; by default the library finds
        # them before it splits the text, and so in other places.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.vocab_size = highest + 1
        self.start_id: int | None = vocabulary.get(START)
        self.end_id: int = highest

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "ClipTokenizer":
        """From a `tokenizer.json`. Raises FileNotFoundError, ValueError if CLIP cannot use it, or tokenizers' error."""
        return cls(Tokenizer.from_str(Path(path).read_text(encoding="utf-8")))

    @classmethod
    def openai(cls) -> "ClipTokenizer":
        """With the 49,408 entries of OpenAI's models and most of open_clip's, which open_clip carries."""
        from open_clip import SimpleTokenizer

        original = SimpleTokenizer()
        *entries, _, _ = original.encoder  # open_clip has other names for the last two
        vocabulary = {entry: i for i, entry in enumerate([*entries, START, END])}
        return cls.from_vocabulary(vocabulary, [(first, second) for first, second in original.bpe_ranks])

    @classmethod
    def from_vocabulary(cls, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> "ClipTokenizer":
        """With other entries and merges that split texts as OpenAI's does. Raises ValueError if CLIP cannot use it."""
        model = BPE(vocabulary, merges, end_of_word_suffix="</w>")
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
        with write_whole(path) as beside:
            self.tokenizer.save(str(beside), pretty=False)

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

    def with_mask(self, texts: Sequence[str], context_length: int = 77) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens as above, longer texts without their end, and their mask, bool [N, context_length].

        True for start, ids and end; all False for an empty text, which guided diffusion leans away from.
        """
        tokens, lengths = self.with_lengths(texts, context_length, truncate=True)
        written = torch.tensor([bool(text.strip()) for text in texts])
        return tokens, torch.arange(context_length) < (lengths * written)[:, None]

    def truncated_at(self, text: str, context_length: int = 77) -> str | None:
        """The first word of the cleaned text that does not or not wholly fit; None if all words do."""
        room = context_length - 1 - (self.start_id is not None)
        words = clean(text).split()
        if len(self.encode(text)) <= room:
            return None
        return next(word for i, word in enumerate(words) if len(self.encode(" ".join(words[: i + 1]))) > room)

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
        # Python reads an undecodable byte of a command line as half a surrogate pair, which UTF-8 cannot write.
        text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.split()).lower()


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
