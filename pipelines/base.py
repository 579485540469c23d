"""What all pipelines share: loading and saving, the checks of a request, seeds, batches, and outputs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from inspect import signature
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor

from ..layers import prepare
from ..layers.precision import best_device, resolve_dtype
from ..weights.model_folder import load_part, read_index, write_model_folder
from .convert import load_checkpoint, ready_model
from .request import PromptWarning, check_numbers, check_request

if TYPE_CHECKING:
    from typing import Self

BATCH = 16
PICTURE_TYPES = ("pil", "np", "pt")
Callback = Callable[[Any, int, float, dict], dict | None]
# An `OnStep` that also takes `stage=`, the name of the network that is running.
OnStageStep = Callable[..., Tensor | None]


@dataclass(frozen=True)
class Request:
    """Samples to draw, checked: of each its prompt, its source of noise and its settings, as text for a PNG.

    sampling: how to draw all of them, the model's settings with what the call says in their place. given: tensors or
    lists that have a row for each sample.
    """

    prompts: list[str]
    generators: list[torch.Generator]
    settings: list[dict[str, str]]
    sampling: Mapping[str, Any]
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return self.sampling["num_inference_steps"]

    @property
    def guidance_scale(self) -> float:
        return self.sampling["guidance_scale"]

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, some: slice) -> Request:
        """Some of its samples."""
        prompts, generators, settings = (
            each[some] for each in (self.prompts, self.generators, self.settings)
        )
        given = {name: value[some] for name, value in self.given.items()}
        return replace(self, prompts=prompts, generators=generators, settings=settings, given=given)


@dataclass
class PictureOutput(BaseOutput):
    """images: as `output_type` says. settings: for each picture, as text, what draws it again; for a PNG."""

    images: Any
    settings: list[dict[str, str]]


class Pipeline(DiffusionPipeline):
    """A subclass names its `task` and its `parts`, and says in `__call__` what a request is answered with.

    parts: the constructor's arguments that are networks or tokenizers, and of which classes each may be; one with a
    default of None may be absent. exact: those that are in float32 whatever `dtype` says.
    `request` and `in_batches` do what is common to all calls.
    The constructor's other arguments are settings, kept in the model's folder; "num_inference_steps" and
    "guidance_scale" must be among them. A pipeline holds nothing of a call: threads may share it.
    """

    task: ClassVar[str]
    parts: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    exact: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Arguments with a default are components for diffusers, which moves them, only if they are named here.
        arguments = signature(cls).parameters
        cls._optional_components = [
            name for name in cls.parts if name in arguments and arguments[name].default is None
        ]

    def __init__(self, arguments: Mapping[str, Any]):
        """arguments: of the subclass's constructor, by name; other names are passed over, so `locals()` will do."""
        super().__init__()
        names = signature(type(self)).parameters
        self.register_modules(**{name: arguments[name] for name in self.parts})
        self.register_to_config(**{name: arguments[name] for name in names if name not in self.parts})
        self.model_name = type(self).__name__

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As diffusers', but `exact` parts stay in float32."""
        exact = [part for name in self.exact if (part := getattr(self, name)) is not None]
        weights = [(weight, weight.data) for part in exact for weight in part.parameters()]
        super().to(*args, **kwargs)
        for weight, before in weights:
            weight.data = before.to(weight.device)
        return self

    @property
    def context_length(self) -> int:
        """How many tokens of a prompt the model reads."""
        raise NotImplementedError

    @property
    def batch_size(self) -> int:
        """How many samples are drawn at once, if a call does not say."""
        return BATCH

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike = "mini",
        *,
        dtype: Any = "auto",
        device: Any = "auto",
        **settings: Any,
    ) -> Self:
        """The pipeline of a known model, of a model folder, or of one original checkpoint, in eval mode.

        A published model is downloaded, and made into a folder in the cache, on first use.

        dtype: a torch dtype or its name; "auto": bfloat16 where native, else float32, whose products of matrices run
        through 16-bit integers on CPUs that do these faster. device: "auto": the GPU if there is one.
        settings: to use in place of the folder's, such as sampler="ddim".
        Raises ValueError for an unknown name or setting or a checkpoint of another kind, FileNotFoundError for what is
        no model's folder.
        """
        dtype = settings.pop("torch_dtype", dtype)
        known = [name for name in signature(cls).parameters if name not in cls.parts]
        if unknown := sorted(set(settings) - set(known)):
            raise ValueError(f"unknown setting {unknown[0]!r}; known are {', '.join(known)}")
        place = cls.find(pretrained_model_name_or_path)
        device = best_device() if device == "auto" else torch.device(device)
        approximate = dtype == "auto"
        dtype = resolve_dtype(dtype, device)
        if place.is_file():
            index, parts = {}, load_checkpoint(place, cls.task, dtype)
        else:
            index = read_index(place)
            parts = cls._load_parts(place, index, dtype)
        pipe = cls(**parts, **{name: index[name] for name in known if name in index} | settings).to(device)
        pipe.model_name = os.fspath(pretrained_model_name_or_path)
        for part in parts.values():
            if isinstance(part, torch.nn.Module):
                prepare(part.to(memory_format=torch.channels_last), approximate)  # pyright: ignore[reportCallIssue]
        return pipe

    @classmethod
    def find(cls, model: str | os.PathLike) -> Path:
        """The folder, or the file, of a model of this pipeline. Raises what `ready_model` raises."""
        return ready_model(model, cls.task)

    @classmethod
    def _load_parts(cls, folder: Path, index: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
        parts = {}
        for name, kinds in cls.parts.items():
            _, found, *place = index.get(name) or (None, None)
            kind = next((kind for kind in kinds if kind.__name__ == found), None)
            if kind is not None:
                of_it = torch.float32 if name in cls.exact else dtype
                parts[name] = load_part(kind, folder.joinpath(*(place or [name])), of_it)
            elif found or signature(cls).parameters[name].default is not None:
                expected = " or ".join(kind.__name__ for kind in kinds)
                raise ValueError(
                    f"{folder} has {found or 'nothing'} as {name}; {cls.__name__} wants {expected}"
                )
        return parts

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, save_directory: str | os.PathLike
    ) -> None:
        """Write the model folder that `from_pretrained` reads, whole or not at all, weights in their present format."""
        parts = {name: part for name in self.parts if (part := getattr(self, name)) is not None}
        arguments = signature(type(self)).parameters
        settings = {name: self.config[name] for name in arguments if name not in self.parts}
        write_model_folder(save_directory, type(self).__name__, parts, settings)

    def truncations(self, prompts: Sequence[str]) -> list[str]:
        """A sentence for each different prompt that is too long and will be cut off."""
        cut = {text: self.tokenizer.truncated_at(text, self.context_length) for text in prompts}
        return [
            f"the prompt is longer than the {self.context_length} tokens that the model reads; "
            f"it was cut off at the word {word if len(word) <= 40 else f'{word[:40]}…'!r}"
            for word in cut.values()
            if word is not None
        ]

    def request(
        self,
        prompt: str | Sequence[str] | None,
        count: int,
        steps: int | None,
        guidance_scale: float | None,
        seed: int | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        own: Mapping[str, Any] | None = None,
        asked: Mapping[str, Any] | None = None,
        things: int | None = None,
    ) -> Request:
        """The request checked, with the model's own settings where it says nothing. Warns of prompts that are cut off.

        prompt: what samples are made of; None: something else than words, `count` samples of each of so many `things`.
        generator: one for all samples or a list with one each. Neither it nor a seed: seeded from torch's global one.
        own: settings in place of the model's. asked: what else makes the samples what they are, for their settings.
        Raises ValueError or TypeError.
        """
        if prompt is None and things is not None:
            check_numbers(things, count, steps, guidance_scale, seed)
            prompts = [""] * (things * count)
        else:
            prompts = check_request(cast(Any, prompt), count, steps, guidance_scale, seed)
        own = self.config if own is None else own
        steps = int(own["num_inference_steps"] if steps is None else steps)
        scale = float(own["guidance_scale"] if guidance_scale is None else guidance_scale)
        shared = {
            "model": self.model_name,
            "steps": str(steps),
            "guidance": str(scale),
            **{name: str(value) for name, value in (asked or {}).items() if value is not None},
            "version": f"maquette {version('maquette')}",
        }
        settings = [{**({"prompt": text} if text else {}), **shared} for text in prompts]
        if generator is None:
            first = int(torch.randint(2**31, ())) if seed is None else int(seed)
            generators = [torch.Generator().manual_seed(first + i) for i in range(len(prompts))]
            settings = [{**each, "seed": str(first + i)} for i, each in enumerate(settings)]
        elif seed is not None:
            raise ValueError("both seed and generator were given; give one of them")
        else:
            one = isinstance(generator, torch.Generator)
            generators = [generator] * len(prompts) if one else list(generator)
        if len(generators) != len(prompts):
            raise ValueError(
                f"{len(prompts)} samples were asked for with {len(generators)} generators; give one for each"
            )
        for sentence in self.truncations(prompts):
            warnings.warn(sentence, PromptWarning, stacklevel=4)
        sampling = {**own, "num_inference_steps": steps, "guidance_scale": scale}
        return Request(prompts, generators, settings, sampling)

    def in_batches(
        self,
        request: Request,
        draw: Callable[[Request, OnStageStep], Tensor],
        on_batch: Callable[[Tensor, list[dict[str, str]]], None],
        callback_on_step_end: Callback | None = None,
        total: int | None = None,
        rows: int | None = None,
    ) -> None:
        """Draw the request's samples in batches, each under a progress bar.

        draw: makes the samples [N, …] of a part of the request, and calls its second argument after each step.
        on_batch: called with the samples and settings of each batch when it is done, to keep them: none are returned.
        callback_on_step_end: called after each step of a batch as (pipeline, step, timestep, {"latents": x, "x0": x0,
        "stage": stage}); "latents" in the dict that it returns, if any, takes x's place.
        total: how many steps a batch takes; None: `request.steps`. rows: samples of a batch; None: `batch_size`.
        """
        rows = rows or self.batch_size
        for first in range(0, len(request), rows):
            some = request.rows(slice(first, first + rows))
            which = f" {first + 1} to {first + len(some)} of {len(request)}" if len(request) > 1 else ""
            with self.progress_bar(total=request.steps if total is None else total) as bar:  # pyright: ignore[reportAttributeAccessIssue]
                bar.unit = "step"
                bar.set_description(f"drawing{which}")
                counted = count()

                def on_step(
                    _: int, timestep: float, x: Tensor, x0: Tensor, stage: str, bar=bar, counted=counted
                ) -> Tensor | None:
                    bar.update()
                    if callback_on_step_end is None:
                        return None
                    given = {"latents": x, "x0": x0, "stage": stage}
                    return (callback_on_step_end(self, next(counted), timestep, given) or {}).get("latents")

                x = draw(some, on_step)
            on_batch(x, some.settings)

    def pictures_in_batches(
        self,
        request: Request,
        draw: Callable[[Request, OnStageStep], Tensor],
        output_type: str,
        callback_on_batch_end: Callable[[PictureOutput], None] | None = None,
        **more: Any,
    ) -> PictureOutput:
        """`in_batches` of pictures [N, 3, H, W] in [-1, 1], handed out as `output_type` says; more: its arguments."""

        made = []

        def done(x: Tensor, settings: list[dict[str, str]]) -> None:
            made.append(as_pictures(x, output_type))
            if callback_on_batch_end is not None:
                callback_on_batch_end(PictureOutput(made[-1], settings))

        self.in_batches(request, draw, done, **more)
        joined: Any = {"pil": lambda lists: [*chain(*lists)], "np": np.concatenate, "pt": torch.cat}
        return PictureOutput(joined[output_type](made), request.settings)


def check_picture_type(output_type: str) -> None:
    """Raises ValueError unless `as_pictures` knows it."""
    if output_type not in PICTURE_TYPES:
        raise ValueError(f"unknown output_type {output_type!r}; known are {', '.join(PICTURE_TYPES)}")


def as_pictures(x: Tensor, output_type: str) -> Any:
    """Pictures x [N, 3, H, W] in [-1, 1] as "pil", as "np", float32 [N, H, W, 3], or as "pt", float32 [N, 3, H, W]."""
    return VaeImageProcessor().postprocess(x.float().cpu(), output_type)
