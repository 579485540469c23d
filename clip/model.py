"""A whole CLIP, ready to use: the encoder with the tokenizer and the preprocessing that belong to it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ..layers import prepare
from ..layers.precision import best_device, best_dtype
from ..weights import find_folder, find_weights, known_models, read_weights
from ..weights.model_folder import load_part, write_model_folder
from ..weights.read_weights import is_archive
from ..weights.table import nearest
from .encoder import ClipEncoder
from .preprocess import Preprocess, open_picture
from .tokenizer import ClipTokenizer

TASK = "zero-shot-image-classification"
WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors")


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
        config: str | Mapping[str, Any] | None = None,
        dtype: Any = "auto",
        device: Any = "auto",
        progress: bool = True,
    ) -> ClipModel:
        """A known name ("mini", "ViT-B/32", …), an open_clip one ("ViT-B-32/laion2b_s34b_b79k", "hf-hub:org/name"),
        the folder of a trained model, or the file of one of OpenAI's or open_clip's checkpoints.

        config: what a file's shapes cannot tell, such as activation, heads, and the preparation of pictures, as
        open_clip's name of the model or its architecture ("ViT-H-14/laion2b_s32b_b79k", "ViT-H-14"; nothing is
        downloaded) or as arguments of ClipEncoder. Without it, a file is read as the open_clip_config.json beside it
        says, else as one of OpenAI's, with a warning unless it is a TorchScript archive as theirs are.
        dtype: a torch dtype; "auto": bfloat16 where native, else float32, whose products of matrices run through
        16-bit integers on CPUs that do these faster (`maquette.layers.int16_product`). device: "auto":
        the GPU if there is one.
        A published model is downloaded once, with a bar if `progress`. Raises ValueError for an unknown name or for
        what is no CLIP, FileNotFoundError for a missing file, OSError if a download fails.
        """
        device = best_device() if device == "auto" else torch.device(device)
        encoder, tokenizer = _load(os.fspath(model), config, progress)
        approximate = dtype == "auto"
        dtype = best_dtype(device) if dtype == "auto" else dtype
        scalars = [parameter for parameter in encoder.parameters() if not parameter.dim()]
        exact = [scalar.detach().float().to(device) for scalar in scalars]
        # As any module: diffusers' own `to` warns of layers that this network has not.
        torch.nn.Module.to(encoder.requires_grad_(False), device, dtype)
        for scalar, value in zip(scalars, exact, strict=True):  # temperature and bias: 1 % of 100 is much
            scalar.data = value
        prepare(encoder, approximate)
        return cls(encoder, tokenizer, os.fspath(model))

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write a model folder that `from_pretrained` reads, weights in their present format."""
        parts = {"encoder": self.encoder, "tokenizer": self.tokenizer}
        write_model_folder(folder, type(self).__name__, parts, {})

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
        pictures: Iterable[Image.Image | str | os.PathLike] | Image.Image | str | os.PathLike,
        batch_size: int = 32,
        progress: bool = False,
    ) -> Tensor:
        """Vectors, float32 [N, dim] on the CPU, of PIL pictures or the paths of some, in their order; N is 1 for one.

        Raises what `open_picture` raises, naming the file.
        """
        if isinstance(pictures, (Image.Image, str, os.PathLike)):
            pictures = [pictures]
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
    def embed_texts(
        self, texts: Sequence[str] | str, batch_size: int = 256, truncate: bool = False
    ) -> Tensor:
        """Vectors, float32 [N, dim] on the CPU, of texts; N is 1 for one text.

        Raises ValueError for one that is too long, unless `truncate`, which cuts it, and TypeError for no texts at all.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
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


def _load(
    model: str, config: str | Mapping[str, Any] | None, progress: bool
) -> tuple[ClipEncoder, ClipTokenizer]:
    if config is not None and not os.path.isfile(model):
        raise ValueError(
            f"config goes with the path of a file of weights, and {model!r} is none; leave it out"
        )
    folder = find_folder(model, TASK)
    if folder is not None:
        encoder = load_part(ClipEncoder, folder / "encoder", torch.float32)
        return encoder, load_part(ClipTokenizer, folder / "tokenizer", torch.float32)
    if model in known_models(TASK):
        path = find_weights(model, "weights", progress=progress)
        return ClipEncoder.from_original(read_weights(path)), ClipTokenizer.openai()
    if os.path.exists(model):
        return _load_file(Path(model), config), ClipTokenizer.openai()
    from .open_clip_names import HUB, architectures, find_open_clip, open_clip_names

    architecture, slash, _ = model.partition("/")
    is_file = model.endswith(WEIGHT_FILES)
    if model.startswith(HUB) or (slash and not is_file and architecture in architectures()):
        path, found = find_open_clip(model, progress=progress)
        return ClipEncoder.from_original(read_weights(path), found), ClipTokenizer.openai()
    if is_file or len(Path(model).parts) > 2 or os.path.isabs(model):
        raise FileNotFoundError(
            f"there is no file or folder {model}; give the path of a checkpoint or a model's folder"
        )
    hint = nearest(model, known_models(TASK)) or nearest(model, open_clip_names())
    raise ValueError(
        f"there is no file or folder {model!r}, and no model of that name{hint}; known are "
        f"{', '.join(known_models(TASK))}, and open_clip's names such as ViT-B-32/laion2b_s34b_b79k"
    )


def _load_file(path: Path, config: str | Mapping[str, Any] | None) -> ClipEncoder:
    """The network of a checkpoint, of which `config`, a file beside it, or else custom tells what shapes cannot."""
    from .open_clip_names import CONFIG, hub_config, open_clip_config

    beside = path.with_name(CONFIG)
    if isinstance(config, str):
        config = open_clip_config(config)
    elif config is not None:
        # Such as diffusers' notes in a config.json.
        config = {name: value for name, value in config.items() if not name.startswith("_")}
        known = list(signature(ClipEncoder).parameters)
        for name in config:
            if name not in known:
                raise ValueError(f"config has the unknown entry {name!r}{nearest(name, known)}")
    elif beside.is_file():
        config = hub_config(str(path), beside)
    weights = read_weights(path)
    encoder = ClipEncoder.from_original(weights, None if config is None else dict(config))
    if config is None and not is_archive(path):
        warnings.warn(
            f"{path} is read as one of OpenAI's models, with their activation and preparation of pictures; if it is "
            f"open_clip's, put its {CONFIG} beside it, or load it in Python with config='ViT-B-32/laion2b_s34b_b79k' "
            "or whatever it is",
            stacklevel=4,
        )
    return encoder


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
