"""The tokenizers that a recipe names."""

from pathlib import Path

from ..tokenizer import ClipTokenizer

TOYBOX_TOKENIZER = Path(__file__).parents[2] / "toybox" / "tokenizer.json"


def named_tokenizer(name: str) -> ClipTokenizer:
    """CLIP's tokenizer of a recipe: "toybox", "openai" or the path of a tokenizer.json. Raises as `from_file`."""
    if name == "openai":
        return ClipTokenizer.openai()
    return ClipTokenizer.from_file(TOYBOX_TOKENIZER if name == "toybox" else name)
