"""A whole CLIP, ready to use: the encoder with the tokenizer and the preprocessing that belong to it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..layers import prepare
from ..layers.precision import best_device, resolve_dtype
from ..weights.checksums import write_checksums
from ..weights.model_folder import new_folder, write_model_folder
from .load_clip import load_clip
from .open_clip_config import CONFIG
from .preprocess import Picture, Preprocess, pictures_of

if TYPE_CHECKING:
    from .encoder import ClipEncoder
    from .open_clip_encoder import OpenClipEncoder
    from .open_clip_tokenizer import OpenClipTokenizer
    from .tokenizer import ClipTokenizer


class ClipModel:
    """Pictures and texts -> vectors of length 1 whose products say how well they fit.

    encoder, tokenizer, preprocess: the three parts. name: what it was loaded as. dim: the length of a vector.
    logit_scale: what a cosine is multiplied with before a softmax. Source: CLIP (Radford et al. 2021).

    encoder is a `ClipEncoder` where that builds the architecture (OpenAI's models, open_clip's ViTs and ResNets, SigLIP
    and SigLIP2), else open_clip's own network behind the same interface. Pictures of any mode are prepared as open_clip
    prepares them, but for three things that it loses: what EXIF says of a file's orientation is followed, transparent
    pictures are laid on white, and 16 bits or floats are scaled to 8 bits and not clipped.
    """

    def __init__(
        self,
        encoder: ClipEncoder | OpenClipEncoder,
        tokenizer: ClipTokenizer | OpenClipTokenizer,
        name: str = "clip",
    ):
        # Any: who trains an encoder or reads its states needs a ClipEncoder, and asks for it with `own_encoder`.
        self.encoder: Any = encoder.eval()
        self.tokenizer: Any = tokenizer
        self.name = name
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
    ) -> ClipModel:
        """A model by its name, from its folder or from the file of a checkpoint.

        model: a known name ("mini", "ViT-B/32", …); one of open_clip's ("ViT-B-16-SigLIP2/webli"), where a warning says
        if it computes another activation than its weights were trained with; the folder of a trained model, of
        open_clip's or of transformers' CLIPModel; a repository of the Hub in one of these two layouts
        ("hf-hub:org/name"); or the file of one of OpenAI's or open_clip's checkpoints.
        config: what a file's shapes cannot tell, such as activation, heads, and the preparation of pictures, as
        open_clip's name of the model or its architecture ("ViT-H-14/laion2b_s32b_b79k", "ViT-H-14"; nothing is
        downloaded) or as arguments of ClipEncoder. Without it, a file is read as the open_clip_config.json beside it
        says, else as one of OpenAI's, with a warning unless it is a TorchScript archive as theirs are.
        dtype: a torch dtype or its name; "auto": bfloat16 where native, else float32, whose products of matrices run
        through 16-bit integers on CPUs that do these faster (`maquette.layers.int16_product`). device: "auto": the GPU
        if there is one.
        A published model is downloaded once, with a progress bar. Raises ValueError for an unknown name or for
        what is no CLIP, FileNotFoundError for a missing file, OSError if a download fails.
        """
        device = best_device() if device == "auto" else torch.device(device)
        encoder, tokenizer = load_clip(os.fspath(model), config)
        approximate = dtype == "auto"
        dtype = resolve_dtype(dtype, device)
        scalars = [parameter for parameter in encoder.parameters() if not parameter.dim()]
        exact = [scalar.detach().float().to(device) for scalar in scalars]
        # As any module: diffusers' own `to` warns of layers that this network has not.
        torch.nn.Module.to(encoder.requires_grad_(False), device, dtype)
        for scalar, value in zip(scalars, exact, strict=True):  # temperature and bias: 1 % of 100 is much
            scalar.data = value
        prepare(encoder, approximate)
        return cls(encoder, tokenizer, os.fspath(model))

    def own_encoder(self, with_states: bool = False) -> ClipEncoder:
        """The encoder, for training it or, `with_states`, for reading texts token by token.

        Raises ValueError if it is open_clip's network or, `with_states`, a SigLIP, whose texts have no end.
        """
        from .encoder import ClipEncoder

        if not isinstance(self.encoder, ClipEncoder) or (with_states and self.encoder.config["siglip"]):
            kind = "a SigLIP" if isinstance(self.encoder, ClipEncoder) else "a network of open_clip's"
            raise ValueError(
                f"{self.name} is {kind}, of which only whole vectors are used; take a ViT or ResNet such as ViT-B/32"
            )
        return self.encoder

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write a model folder that `from_pretrained` reads, weights in their present format.

        That of a network of open_clip's is one that open_clip reads as well. Raises FileExistsError, and touches
        nothing, if there is something else in `folder`.
        """
        from .encoder import ClipEncoder

        if isinstance(self.encoder, ClipEncoder):
            parts = {"encoder": self.encoder, "tokenizer": self.tokenizer}
            return write_model_folder(folder, type(self).__name__, parts, {})
        with new_folder(folder, CONFIG) as beside:
            for part in (self.encoder, self.tokenizer):
                if hasattr(part, "save_pretrained"):  # open_clip carries OpenAI's tokenizer itself
                    part.save_pretrained(beside)
            write_checksums(beside)

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
        self, pictures: Picture | Iterable[Picture], batch_size: int = 32, progress: bool = False
    ) -> Tensor:
        """Vectors, float32 [N, dim] on the CPU, of PIL pictures or the paths of some, in their order; N is 1 for one.

        Raises what `picture_of` raises, and ValueError for a batch_size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        total = len(pictures) if isinstance(pictures, Sequence) and not isinstance(pictures, str) else None
        opened = tqdm(pictures_of(pictures), total=total, leave=False, unit="picture", disable=not progress)
        pixels, vectors = map(self.preprocess, opened), [torch.zeros(0, self.dim)]
        while some := list(islice(pixels, batch_size)):
            batch = torch.stack(some).to(self.encoder.device)
            vector = self.encoder.encode_image(batch, with_grid=False).vector
            vectors.append(F.normalize(vector, dim=-1).cpu())
        return torch.cat(vectors)

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
