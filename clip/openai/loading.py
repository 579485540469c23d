"""What OpenAI's package offers at its door: `load`, `tokenize` and `available_models`."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from ...layers.precision import best_device
from ...weights import find_file, find_weights, known_models, read_weights
from ...weights.table import model_file, nearest
from ..preprocess import OPENAI_MEAN, OPENAI_STD
from .towers import CLIP, convert_weights, exact_model
from .vocabulary import shared_tokenizer

_SOURCE = "https://github.com/openai/CLIP"


def available_models() -> list[str]:
    """The names of OpenAI's published models, in their order."""
    return [name for name, entry in known_models().items() if entry.get("source") == _SOURCE]


def load(
    name: str | os.PathLike,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | os.PathLike | None = None,
) -> tuple[CLIP, Compose]:
    """A published model by name, or one from a file (OpenAI's archive, or a state dict), and its preprocessing.

    device: by default the GPU if there is one, else the CPU. On the CPU weights are float32, elsewhere as
    `convert_weights` makes them. The preprocessing is torchvision's list with the original's numbers for pictures of
    every mode: transparency is dropped, and grey of more than 8 bits is clipped. jit: the model traced, with
    `encode_image`, `encode_text` and `forward` and an archive's attributes; the code in an archive is never run.
    download_root: where to keep downloads, instead of Maquette's cache.
    Raises RuntimeError for an unknown name, as the original does; ValueError for a file that holds no CLIP of OpenAI's
    kind; and what `find_weights` and `read_weights` raise.
    """
    name = os.fspath(name)
    if name in available_models():
        path = find_weights(name, "weights", folder=download_root)
    elif os.path.isfile(name):
        path = name
    else:
        known = available_models()
        raise RuntimeError(
            f"{name} is neither a file nor one of OpenAI's models{nearest(name, known)}: {', '.join(known)}; "
            "maquette.ClipModel.from_pretrained knows others"
        )
    model = exact_model(read_weights(path))
    preprocess = transform(model.visual.input_resolution)
    device = best_device() if device is None else torch.device(device)
    if device.type != "cpu":
        convert_weights(model)
    model.to(device)
    return (_traced(model) if jit else model), preprocess


def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
    """Texts -> int32 [N, context_length]: start, the text's ids, end, then zeros.

    Raises TextTooLong (a RuntimeError, as in the original, and a ValueError) for a text that does not fit, unless
    `truncate`, which cuts it and keeps the end token.
    """
    return shared_tokenizer().tokenizer(texts, context_length, truncate).int()


def transform(n_px: int) -> Compose:
    """A picture of any mode -> normalised pixels [3, n_px, n_px], by the steps of the original."""
    steps = [Resize(n_px, InterpolationMode.BICUBIC), CenterCrop(n_px), convert_to_rgb, ToTensor()]
    return Compose([*steps, Normalize(OPENAI_MEAN, OPENAI_STD)])


def convert_to_rgb(picture: Image.Image) -> Image.Image:
    """As the original does: transparency is dropped, and 16 bits are clipped."""
    return picture.convert("RGB")


def urls() -> dict[str, str]:
    """The name of each published model -> its address."""
    return {name: model_file(name, "weights")["url"] for name in available_models()}


def download(url: str, root: str | os.PathLike | None = None) -> str:
    """The path of the file of an address, which contains its hash; kept in `root`, or Maquette's cache."""
    return str(find_file(url, url.split("/")[-2], folder=root))


def _traced(model: CLIP) -> Any:
    """`model` traced, with the numbers that OpenAI's archives hold beside the weights."""
    side, length, vocabulary = model.visual.input_resolution, model.context_length, model.vocab_size
    del model.context_length, model.vocab_size
    numbers = {"input_resolution": side, "context_length": length, "vocab_size": vocabulary}
    for name, number in numbers.items():
        model.register_buffer(name, torch.tensor(number))
    model.requires_grad_(False)
    where = model.logit_scale.device
    image = torch.zeros(2, 3, side, side, device=where)
    text = torch.zeros(2, length, dtype=torch.int32, device=where)
    examples = {"forward": (image, text), "encode_image": image, "encode_text": text}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own checks of shapes, which a trace does not contain
        return torch.jit.trace_module(model, examples, check_trace=False)
