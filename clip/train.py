"""CLIP as a stage of training: pictures with captions go in, the contrastive loss of the whole batch comes out."""

import inspect
import io
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..training import TrainConfig
from .encoder import ClipEncoder
from .loss import contrastive_loss, gathered
from .preprocess import Preprocess, open_picture
from .tokenizer import ClipTokenizer

TOYBOX_TOKENIZER = Path(__file__).parents[1] / "toybox" / "tokenizer.json"
_OWN_KEYS = {"tokenizer": "toybox", "start_from": None}


class ClipStage:
    """Trains ClipEncoder on pictures with captions. Source: CLIP (Radford et al. 2021), section 2.3.

    The recipe's `model:` holds ClipEncoder's arguments and
    tokenizer: "toybox", "openai" or the path of a tokenizer.json;
    start_from: a folder with a trained network of the same layout to go on from.
    A batch is compared as a whole, over all processes: leave `micro_batch` alone.
    Raises ValueError on unknown keys.
    """

    def __init__(self, config: TrainConfig):
        settings = {key: config.model.get(key, default) for key, default in _OWN_KEYS.items()}
        layout = {key: value for key, value in config.model.items() if key not in _OWN_KEYS}
        known = set(inspect.signature(ClipEncoder.__init__).parameters) - {"self", "vocab_size"}
        if unknown := sorted(set(layout) - known):
            names = ", ".join(sorted(known | set(_OWN_KEYS)))
            raise ValueError(f"unknown key {unknown[0]!r} under model: in the recipe; known are {names}.")
        if config.micro_batch:
            raise ValueError("CLIP compares a batch as a whole; drop micro_batch from the recipe.")
        self.tokenizer = _tokenizer(settings["tokenizer"])
        torch.manual_seed(config.seed)
        try:
            self.model = ClipEncoder(**layout, vocab_size=self.tokenizer.vocab_size)
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
            raise ValueError(f"model: in the recipe does not make a ClipEncoder: {error}.") from None
        if start := settings["start_from"]:
            if not Path(start, "config.json").is_file():
                raise FileNotFoundError(
                    f"start_from: {start} holds no trained network; train it first or drop the key."
                )
            try:
                self.model.load_state_dict(ClipEncoder.from_pretrained(start).state_dict())
            except RuntimeError:
                raise ValueError(
                    f"start_from: {start} has another layout than model: in the recipe."
                ) from None
        self.preprocess = Preprocess.from_config(self.model.config)
        self.flops_per_sample = 3 * self._forward_flops()

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """`png` (or `jpg`, `webp`) and `txt` of a raw sample -> pixels [3, side, side], tokens [context_length]."""
        kind = next((kind for kind in ("png", "jpg", "jpeg", "webp") if kind in sample), "png")
        picture = open_picture(io.BytesIO(sample[kind]))
        context = self.model.config["context_length"]
        tokens = self.tokenizer(sample["txt"].decode(), context, truncate=True)
        return {"pixels": self.preprocess(picture), "tokens": tokens[0]}

    def loss(self, model, batch, generator):
        """The symmetric cross-entropy of a batch, how often the right caption is the nearest, and the temperature."""
        images, texts, scale, bias = model(batch["pixels"], batch["tokens"])
        images, texts = gathered(images), gathered(texts)
        right = (images @ texts.T).argmax(1) == torch.arange(len(images), device=images.device)
        metrics = {"right_caption": right.float().mean(), "logit_scale": scale}
        return contrastive_loss(images, texts, scale, bias), metrics

    def samples(self, model):
        """Nothing to look at yet."""
        return None

    def save(self, model, folder: Path) -> None:
        """Write network and tokenizer as `ClipModel.from_pretrained` reads them."""
        model.save_pretrained(folder)
        self.tokenizer.save(folder / "tokenizer.json")

    @torch.no_grad()
    def _forward_flops(self) -> int:
        side = self.model.config["image_resolution"]
        tokens = self.tokenizer(["a photo of something"], self.model.config["context_length"], truncate=True)
        with FlopCounterMode(display=False) as counter:
            self.model(torch.zeros(1, 3, side, side), tokens)
        return counter.get_total_flops()


def _tokenizer(name: str) -> ClipTokenizer:
    if name == "openai":
        return ClipTokenizer.openai()
    return ClipTokenizer.from_file(TOYBOX_TOKENIZER if name == "toybox" else name)
