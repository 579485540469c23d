"""The tokenizers of transformers that many of open_clip's models read with, behind `ClipTokenizer`'s interface."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..weights.download import offline
from .tokenizer import ClipTokenizer, TextTooLong

SETTINGS = "open_clip_tokenizer.json"


class OpenClipTokenizer:
    """Texts -> token ids, as `open_clip.HFTokenizer` makes them.

    source: a repository of the Hub, or a folder that holds the tokenizer. settings: "tokenizer_kwargs" and
    "tokenizer_mode" of open_clip's "text_cfg". Raises what transformers and huggingface_hub raise.
    """

    def __init__(self, source: str | os.PathLike, settings: Mapping[str, Any]):
        from open_clip.tokenizer import HFTokenizer

        arguments = dict(settings.get("tokenizer_kwargs") or {})
        self.settings = dict(settings)
        self.original = HFTokenizer(
            os.fspath(source),
            tokenizer_mode=settings.get("tokenizer_mode"),
            local_files_only=offline(),
            **arguments,
        )
        self.vocab_size = len(self.original.tokenizer)

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> OpenClipTokenizer:
        """From the folder in which `save_pretrained` wrote the `tokenizer.json` of this path."""
        folder = Path(path).parent
        return cls(folder, json.loads((folder / SETTINGS).read_text(encoding="utf-8")))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write a folder that `from_file` reads."""
        self.original.save_pretrained(folder)
        (Path(folder) / SETTINGS).write_text(json.dumps(self.settings, indent=2), encoding="utf-8")

    def __call__(
        self, texts: str | Sequence[str], context_length: int = 77, truncate: bool = False
    ) -> torch.Tensor:
        """Tokens int64 [N, context_length], padded as this tokenizer pads.

        Raises TextTooLong, a ValueError, for a text that does not fit, unless `truncate`, which cuts it.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"a text must be a string, got {type(text).__name__}")
        tokens = self.original(texts, context_length)
        if not truncate and not self.settings.get("tokenizer_mode"):
            # A text that was cut goes on where there is more room: another token stands where its end was.
            longer = self.original(texts, context_length + 8)
            cut = (longer[:, :context_length] != tokens).any(dim=1)
            if cut.any():
                row = int(cut.int().argmax())
                raise TextTooLong(
                    f"the text {texts[row][:60]!r} does not fit in the {context_length} tokens of this model; "
                    "shorten it, or pass truncate=True to lose its end",
                    row,
                    context_length + 1,
                    context_length,
                )
        return tokens


def tokenizer_of(text: Mapping[str, Any], folder: Path | None = None) -> ClipTokenizer | OpenClipTokenizer:
    """The tokenizer that an open_clip "text_cfg" names: from `folder` if it lies there, else from the Hub.

    Raises ValueError for settings of OpenAI's tokenizer, which ours does not have.
    """
    name = text.get("hf_tokenizer_name")
    if not name:
        if settings := text.get("tokenizer_kwargs"):
            raise ValueError(
                f"tokenizer_kwargs {settings} of a model without hf_tokenizer_name are not known"
            )
        return ClipTokenizer.openai()
    here = folder is not None and (folder / "tokenizer_config.json").is_file()
    settings = {key: text[key] for key in ("tokenizer_kwargs", "tokenizer_mode") if text.get(key)}
    return OpenClipTokenizer(folder if here and folder is not None else name, settings)
