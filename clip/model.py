"""A whole CLIP, ready to use: the encoder with the tokenizer and the preprocessing that belong to it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.utils import logging
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..weights import bundled_folder, find_weights, known_models, model_entry, read_weights
from ..weights.precision import best_device, best_dtype
from ..weights.table import nearest
from .encoder import ClipEncoder
from .preprocess import Preprocess, open_picture
from .tokenizer import ClipTokenizer

TASK = "zero-shot-image-classification"
# An architecture and what it was trained on, or a repository of the Hub.
OPEN_CLIP_NAME = re.compile(r"hf-hub:.+|[\w.-]+/(?!.*\.(pt|pth|bin|safetensors)$)[\w.-]+")


class ClipModel:
    """Pictures and texts -> vectors of length 1 whose products say how well they fit.

    encoder, tokenizer, preprocess: the three parts. name: what it was loaded as. dim: the length of a vector.
    logit_scale: what a cosine is multiplied with before a softmax. Source: CLIP (Radford et al. 2021).
    """

    def __init__(self, encoder: ClipEncoder, tokenizer: ClipTokenizer, name: str = "clip"):
        self.encoder, self.tokenizer, self.name = encoder.eval(), tokenizer, name
        self.preprocess = Preprocess.from_config(encoder.config)
        self.dim: int = encoder.config["embed_dim"]

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike = "mini",
        *,
        dtype: Any = "auto",
        device: Any = "auto",
        progress: bool = True,
    ) -> ClipModel:
        """A known name ("mini", "ViT-B/32", …), an open_clip one ("ViT-B-32/laion2b_s34b_b79k", "hf-hub:org/name"),
        the folder of a trained model, or the file of one of OpenAI's or open_clip's checkpoints.

        dtype: a torch dtype; "auto": bfloat16 where native, else float32. device: "auto": the GPU if there is one.
        A published model is downloaded once, with a bar if `progress`. Raises ValueError for an unknown name or for
        what is no CLIP, FileNotFoundError for a missing file, OSError if a download fails.
        """
        device = best_device() if device == "auto" else torch.device(device)
        dtype = best_dtype(device) if dtype == "auto" else dtype
        encoder, tokenizer = _load(os.fspath(model), progress)
        # As any module: diffusers' own `to` warns of layers that this network has not.
        torch.nn.Module.to(encoder.requires_grad_(False), device, dtype)
        return cls(encoder, tokenizer, os.fspath(model))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write `config.json`, weights and `tokenizer.json` as `from_pretrained` reads them."""
        self.encoder.save_pretrained(folder)
        self.tokenizer.save(Path(folder) / "tokenizer.json")

    @property
    def logit_scale(self) -> float:
        return self.encoder.logit_scale.float().exp().item()

    @property
    def logit_bias(self) -> float | None:
        """What is added to logits before a sigmoid; None for a model of the softmax loss."""
        bias = self.encoder.logit_bias
        return None if bias is None else bias.float().item()

    @torch.no_grad()
    def embed_images(
        self,
        pictures: Iterable[Image.Image | str | os.PathLike],
        batch_size: int = 32,
        progress: bool = False,
    ) -> Tensor:
        """Vectors, float32 [N, dim] on the CPU, of PIL pictures or the paths of some, in their order.

        Raises what `open_picture` raises, naming the file.
        """
        total = len(pictures) if isinstance(pictures, Sequence) else None
        vectors = []
        with tqdm(total=total, unit="picture", disable=not progress, leave=False) as bar:
            for some in _batches(pictures, batch_size):
                pixels = torch.stack([self.preprocess(_opened(picture)) for picture in some])
                vector = self.encoder.encode_image(pixels.to(self.encoder.device), with_grid=False).vector
                vectors.append(F.normalize(vector, dim=-1).cpu())
                bar.update(len(some))
        return torch.cat(vectors) if vectors else torch.zeros(0, self.dim)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 256, truncate: bool = False) -> Tensor:
        """Vectors, float32 [N, dim] on the CPU, of texts.

        Raises ValueError for one that is too long, unless `truncate`, which cuts it.
        """
        if not texts:
            return torch.zeros(0, self.dim)
        tokens = self.tokenizer(texts, self.encoder.config["context_length"], truncate)
        # Short beside short: the padding after the longest of a batch costs nothing.
        order = tokens.argmax(dim=1).argsort(stable=True)
        vectors = torch.zeros(len(tokens), self.dim)
        for some in order.split(batch_size):
            part = tokens[some].to(self.encoder.device)
            vector = self.encoder.encode_text(part, with_states=False).vector
            vectors[some] = F.normalize(vector, dim=-1).cpu()
        return vectors


def _load(model: str, progress: bool) -> tuple[ClipEncoder, ClipTokenizer]:
    if model in known_models():
        entry = model_entry(model, TASK)
        if isinstance(entry["tasks"][TASK], str):
            return _load_folder(bundled_folder(model, TASK))
        path = find_weights(model, "weights", progress=progress)
        return ClipEncoder.from_original(read_weights(path)), ClipTokenizer.openai()
    if os.path.isdir(model):
        return _load_folder(Path(model))
    if OPEN_CLIP_NAME.fullmatch(model) and not os.path.exists(model):
        from .open_clip_names import find_open_clip

        path, config = find_open_clip(model, progress=progress)
        return ClipEncoder.from_original(read_weights(path), config), ClipTokenizer.openai()
    if os.path.exists(model) or os.sep in model or Path(model).suffix:
        return ClipEncoder.from_original(read_weights(model)), ClipTokenizer.openai()
    raise ValueError(
        f"unknown model {model!r}{nearest(model, known_models(TASK))}; known are {', '.join(known_models(TASK))}, "
        "open_clip's names such as ViT-B-32/laion2b_s34b_b79k, or give the path of a checkpoint or a model's folder"
    )


def _load_folder(folder: Path) -> tuple[ClipEncoder, ClipTokenizer]:
    """What `save_pretrained` or a training wrote. Raises FileNotFoundError or ValueError naming the file."""
    for name in ("config.json", "diffusion_pytorch_model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no CLIP: {name} is missing; give a folder that save_pretrained or a training wrote"
            )
    tokenizer = ClipTokenizer.from_file(folder / "tokenizer.json")
    # diffusers reports what does not fit as a log line and goes on, or raises; here it is an error in one sentence.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        loaded: Any = ClipEncoder.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # the libraries below raise a dozen kinds
        raise ValueError(f"{folder} holds no whole CLIP: {' '.join(str(error).split())[:300]}") from None
    finally:
        logging.set_verbosity(verbosity)
    encoder, report = loaded
    amiss = [key for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in report[kind]]
    if amiss:
        raise ValueError(f"{folder} holds weights of another network than its config.json says: {amiss[0]}")
    return encoder, tokenizer


def _opened(picture: Image.Image | str | os.PathLike) -> Image.Image:
    return picture if isinstance(picture, Image.Image) else open_picture(picture)


def _batches(pictures: Iterable, size: int) -> Iterator[list]:
    some = []
    for picture in pictures:
        some.append(picture)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
