"""CLIP as a stage of training: pairs go in, the contrastive loss of the whole batch comes out."""

import copy
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, model_validator
from torch import nn

from ...training import TrainConfig
from ...training.adapters import merged
from ...training.layout import check_layout, layout_of, new_network
from ..encoder import MAX_LOGIT_SCALE, ClipEncoder
from ..model import ClipModel
from ..preprocess import Preprocess
from ..tokenizer import ClipTokenizer
from .fine_tuning import choose_trained
from .interpolate import interpolate
from .loss import contrastive_loss, gathered, sigmoid_loss
from .pairs import caption_in, picture_in
from .tokenizers import named_tokenizer

LOSSES = {"contrastive": contrastive_loss, "sigmoid": sigmoid_loss}
CAPTIONS = 4  # of one picture, at most


class ClipTraining(BaseModel, title="stage: of a CLIP recipe", extra="forbid", frozen=True):
    """How CLIP is trained.

    loss: "contrastive", or "sigmoid" (SigLIP, Zhai et al. 2023), for which the model gets a bias if it has none;
    pairs: "image-text" (a picture and its `.txt`, or `.captions.txt` with several, one a line, of which
    one is drawn each time, from the first 4) or "text-text" (`.query.txt` and `.txt`), for search
    over texts, which leaves the image tower as it is;
    chunk: how many pairs are computed at a time; the batch is still compared as a whole and the gradient is the same,
    in the memory of so many, for the time of a second forward pass (0: all at once);
    tokenizer: "toybox" (the default), "openai" or the path of a tokenizer.json.
    To fine-tune:
    start_from: what ClipModel.from_pretrained takes; layout and tokenizer are then its own and need not be given;
    train: "all", "text" (the image tower is locked) or "lora" (adapters of `lora_rank`, merged when saved);
    interpolate: what is saved has this share of the way from the start's weights to the trained ones (WiSE-FT).
    """

    loss: Literal["contrastive", "sigmoid"] = "contrastive"
    pairs: Literal["image-text", "text-text"] = "image-text"
    chunk: NonNegativeInt = 0
    tokenizer: str | None = None
    start_from: str | None = None
    train: Literal["all", "text", "lora"] = "all"
    lora_rank: PositiveInt = 8
    interpolate: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _starts_somewhere(self) -> "ClipTraining":
        if not self.start_from and (self.train != "all" or self.interpolate is not None):
            raise ValueError("train and interpolate need a trained model to go on from; add start_from:")
        return self


class ClipStage:
    """Trains ClipEncoder on pairs. Source: CLIP (Radford et al. 2021), section 2.3.

    The recipe's `model:` holds ClipEncoder's arguments without vocab_size, and its `stage:` what ClipTraining says.
    A batch is compared as a whole, over all processes: leave `micro_batch` alone.
    Raises ValueError for values that do not go together, and what ClipEncoder and ClipTraining raise.
    """

    def __init__(self, config: TrainConfig):
        self.settings = settings = ClipTraining.model_validate(config.stage)
        if config.micro_batch:
            raise ValueError(
                "CLIP compares a batch as a whole; drop micro_batch from the recipe; "
                "to save memory, give chunk under stage:"
            )
        torch.manual_seed(config.seed)
        start = settings.start_from
        made = _started(start, settings.tokenizer, config.model) if start else _new(settings, config.model)
        self.model, self.tokenizer = made
        if settings.chunk and not isinstance(self.model.config["vision_layers"], int):
            raise ValueError("chunk: a ResNet's batch norm sees the whole batch; drop chunk, or train a ViT")
        self.start = copy.deepcopy(self.model) if settings.interpolate is not None else None
        if settings.loss == "sigmoid" and self.model.logit_bias is None:
            self.model.logit_bias = nn.Parameter(torch.tensor(-10.0))
            self.model.register_to_config(sigmoid=True)
        choose_trained(self.model, settings.train, settings.lora_rank)
        if settings.pairs == "text-text" and self.model.visual is not None:
            self.model.visual.requires_grad_(False)
        self.preprocess = Preprocess.from_config(self.model.config)

    def prepare(self, sample: dict[str, Any]) -> dict[str, Any]:
        """A raw sample -> tokens [captions, context_length], and other_tokens alike or pixels [3, side, side]."""
        if self.settings.pairs == "text-text":
            answer, query = ([caption_in(sample, kind)] for kind in ("txt", "query.txt"))
            return {"tokens": self._tokens(answer), "other_tokens": self._tokens(query)}
        picture = picture_in(sample)
        several = caption_in(sample, "captions.txt").splitlines() if "captions.txt" in sample else []
        captions = [line for line in several if line.strip()] or [caption_in(sample)]
        captions = [captions[i % len(captions)] for i in range(CAPTIONS)]
        return {"pixels": self.preprocess(picture), "tokens": self._tokens(captions)}

    def loss(self, model, batch, generator):
        """The loss of a batch, how often the right text is the nearest, and the temperature."""
        visual = self.model.visual
        if visual is not None and not any(p.requires_grad for p in visual.parameters()):
            visual.eval()  # a locked tower's batch norm stays as it is, too
        with torch.no_grad():  # beyond the limit the clamped scale would have no gradient to come back by
            self.model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        pairs = {name: _drawn(some, generator) if some.dim() == 3 else some for name, some in batch.items()}
        first, texts, scale, bias = model(**pairs, chunk=self.settings.chunk)
        first, texts = gathered(first), gathered(texts)
        right = (first @ texts.T).argmax(1) == torch.arange(len(first), device=first.device)
        metrics = {"right_caption": right.float().mean(), "logit_scale": scale}
        return LOSSES[self.settings.loss](first, texts, scale, bias), metrics

    def save(self, model, folder: Path) -> None:
        """Write network and tokenizer as `ClipModel.from_pretrained` reads them."""
        model = merged(model)
        if self.start is not None and (share := self.settings.interpolate) is not None:
            model = interpolate(self.start, model, share)
        ClipModel(model, self.tokenizer).save_pretrained(folder)

    def _tokens(self, texts: list[str]) -> torch.Tensor:
        return self.tokenizer(texts, self.model.config["context_length"], truncate=True)


def _drawn(tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One of the texts of each sample: [N, texts, context_length] -> [N, context_length]."""
    which = torch.randint(tokens.shape[1], (len(tokens),), generator=generator).to(tokens.device)
    return tokens[torch.arange(len(tokens), device=tokens.device), which]


def _new(settings: ClipTraining, layout: dict[str, Any]) -> tuple[ClipEncoder, ClipTokenizer]:
    tokenizer = named_tokenizer(settings.tokenizer or "toybox")
    if sigmoid := settings.loss == "sigmoid":
        layout = {"sigmoid": True, **layout}
    encoder = new_network(ClipEncoder, layout, vocab_size=tokenizer.vocab_size)
    if sigmoid:
        nn.init.constant_(encoder.logit_scale, math.log(10))  # where SigLIP starts
    return encoder, tokenizer


def _started(folder: str, tokenizer: str | None, layout: dict[str, Any]) -> tuple[ClipEncoder, ClipTokenizer]:
    start = ClipModel.from_pretrained(folder, dtype=torch.float32, device="cpu")
    before = start.own_encoder()
    had = layout_of(before)
    check_layout(folder, had, layout)
    read = named_tokenizer(tokenizer) if tokenizer else start.tokenizer
    if tokenizer and read.vocab_size != before.config["vocab_size"]:
        raise ValueError(f"start_from: {folder} was trained with another tokenizer; drop the key tokenizer")
    # Made anew: a ClipModel's encoder is frozen and packed.
    encoder = ClipEncoder(**had)
    encoder.load_state_dict(before.state_dict())
    return encoder, read
