"""OpenAI's tokenizer with the methods and attributes that theirs has."""

from collections.abc import Iterable
from functools import cache

from tokenizers.decoders import ByteLevel

from ..tokenizer import ClipTokenizer


class SimpleTokenizer:
    """Texts -> ids without start and end, and back. encoder, decoder: entry -> id, id -> entry.

    tokenizer: ours, behind it.
    """

    def __init__(self):
        self.tokenizer = ClipTokenizer.openai()
        vocabulary = self.tokenizer.tokenizer.get_vocab()
        self.encoder: dict[str, int] = dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))
        self.decoder: dict[int, str] = {number: entry for entry, number in self.encoder.items()}

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of ids, each word with a space after it; ids may be numbers or the entries of a tensor."""
        return ByteLevel().decode([self.decoder[int(token)] for token in tokens]).replace("</w>", " ")


@cache
def shared_tokenizer() -> SimpleTokenizer:
    """The one that `tokenize` uses; it takes a second to make."""
    return SimpleTokenizer()
