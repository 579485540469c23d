"""OpenAI's interface to CLIP: `load`, `tokenize` and `available_models`, and models that behave as theirs do."""

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import cast

import torch
from PIL import Image
from torch import Tensor

from ...layers.precision import best_device
from ...weights import find_weights, known_models, read_weights
from ...weights.table import nearest
from ..encoder import ClipEncoder, original_key, our_key
from ..preprocess import Preprocess, to_8_bits
from ..tokenizer import ClipTokenizer

_SOURCE = "https://github.com/openai/CLIP"


def available_models() -> list[str]:
    """The names of OpenAI's published models, in their order."""
    return [name for name, entry in known_models().items() if entry.get("source") == _SOURCE]


def load(
    name: str | os.PathLike,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | os.PathLike | None = None,
) -> tuple["OpenAIClip", "OpenAIPreprocess"]:
    """A published model by name, or one from a file (OpenAI's archive, or a state dict), and its preprocessing.

    device: by default the GPU if there is one, else the CPU. On the CPU weights are float32, elsewhere float16, as in
    the original. jit: warned about, and otherwise without effect: the code in an archive is never run. download_root:
    where to keep downloads, instead of Maquette's cache.
    Raises ValueError for an unknown name or a file that holds no CLIP of OpenAI's kind, and what `find_weights` raises.
    """
    name = os.fspath(name)
    if name in available_models():
        path = find_weights(name, "weights", folder=download_root)
    elif os.path.isfile(name):
        path = name
    else:
        known = available_models()
        raise ValueError(
            f"{name} is neither a file nor one of OpenAI's models{nearest(name, known)}: {', '.join(known)}; "
            "ClipModel.from_pretrained knows others"
        )
    if jit:
        warnings.warn(
            "jit=True has no effect: the code in an archive is not run; torch.compile(model) is today's way to compile",
            stacklevel=2,
        )
    model = OpenAIClip.from_original(read_weights(path))
    preprocess = OpenAIPreprocess.from_config(model.config)
    device = best_device() if device is None else torch.device(device)
    if device.type != "cpu":
        # The temperature stays float32, as it was trained: in half precision it is rounded visibly.
        temperature = model.logit_scale.data
        model.half().logit_scale.data = temperature
    model.to(device)  # type: ignore[call-arg]  # as diffusers wraps it, it seems to lack self
    return model, preprocess


def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
    """Texts -> int32 [N, context_length]: start, the text's ids, end, then zeros.

    Raises TextTooLong (a RuntimeError, as in the original, and a ValueError) for a text that does not fit, unless
    `truncate`, which cuts it and keeps the end token.
    """
    return _tokenizer()(texts, context_length, truncate).int()


@cache
def _tokenizer() -> ClipTokenizer:
    return ClipTokenizer.openai()


class OpenAIClip(ClipEncoder):
    """A `ClipEncoder` whose methods return what those of OpenAI's model return, with its attributes and its keys."""

    @classmethod
    def from_original(cls, state_dict: Mapping[str, Tensor], config: dict | None = None) -> "OpenAIClip":
        """As `ClipEncoder.from_original`."""
        model = cast(OpenAIClip, super().from_original(state_dict, config))
        model.visual.input_resolution = model.config["image_resolution"]
        model.visual.output_dim = model.config["embed_dim"]
        model.register_state_dict_post_hook(_say_original_keys)
        model.register_load_state_dict_pre_hook(_take_original_keys)
        return model

    def encode_image(self, image: Tensor) -> Tensor:  # type: ignore[override]
        """Prepared pictures [N, 3, H, W] -> vectors [N, embed_dim] in the model's dtype, not normalised."""
        return super().encode_image(image, with_grid=False).vector.to(self.dtype)

    def encode_text(self, text: Tensor) -> Tensor:  # type: ignore[override]
        """Tokens [N, length] -> vectors [N, embed_dim] in the model's dtype, not normalised."""
        return super().encode_text(text, with_states=False).vector.to(self.dtype)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """How well N pictures and M texts fit, logits for a softmax: per picture [N, M] and per text [M, N]."""
        pictures, texts = (
            vectors / vectors.norm(dim=-1, keepdim=True)
            for vectors in (self.encode_image(image), self.encode_text(text))
        )
        per_picture = self.logit_scale.exp() * pictures @ texts.t()
        return per_picture, per_picture.t()

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.conv1.weight.dtype

    @property
    def context_length(self) -> int:
        return self.config["context_length"]

    @property
    def vocab_size(self) -> int:
        return self.config["vocab_size"]


def _say_original_keys(module, state_dict, prefix, local_metadata) -> None:
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[original_key(key)] = state_dict.pop(key)


def _take_original_keys(module, state_dict, prefix, *_) -> None:
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[our_key(key)] = state_dict.pop(key)


class OpenAIPreprocess(Preprocess):
    """`Preprocess` with the original's numbers for pictures of other modes than RGB as well.

    It resizes them as they are, so a palette's colours are not mixed, and drops transparency: what is transparent
    becomes black. Only grey of more than 8 bits, which the original clips to white, is scaled.
    """

    def fit(self, picture: Image.Image) -> Image.Image:
        """The picture resized and cropped to `size` × `size`, then made RGB."""
        return self._cropped(to_8_bits(picture)).convert("RGB")
