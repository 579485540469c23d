"""Words or pictures to coloured clouds of points with Point-E, and on to meshes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from diffusers.utils import BaseOutput
from einops import rearrange
from PIL.Image import Image
from torch import Tensor

from ..clip.encoder import ClipEncoder
from ..clip.preprocess import Picture, Preprocess, pictures_of
from ..clip.tokenizer import ClipTokenizer
from ..diffusion.sampling import normal_draws
from ..point_e.mesh import check_triangles, make_mesh
from ..point_e.point_cloud import PointCloud
from ..point_e.sampling import Stage, as_clouds, sample_points
from ..point_e.surface import SurfaceModel
from ..point_e.text_grid import text_grid
from ..point_e.transformer import PointDiffusionTransformer, PointUpsampler
from .base import Callback, OnStageStep, Pipeline, Request
from .convert import ready_model
from .point_e_files import point_e_task
from .presets import with_preset
from .request import check_points

if TYPE_CHECKING:
    from trimesh import Trimesh

FAMILY = "point-e"


@dataclass
class ShapeOutput(BaseOutput):
    """clouds: one of each sample. meshes: of each cloud, if they were asked for. pictures: PIL, what each was made of,
    if that was a picture. settings: for each cloud, as text, what makes it again.
    """

    clouds: list[PointCloud]
    meshes: list[Trimesh] | None
    pictures: list[Image] | None
    settings: list[dict[str, str]]


class PointEPipeline(Pipeline):
    """Clouds with Point-E: a base network makes a coarse cloud, an upsampler adds points. Source: Nichol et al. 2022.

    base: told of CLIP's vector or patch grid, or of nothing. upsampler: likewise, and of the coarse cloud. surface: for
    meshes. clip, tokenizer: the CLIP that they were trained with; only an unconditional base alone needs none.
    reads_words, reads_pictures: what the base was trained on; of texts it sees CLIP's vectors or, in the place of
    grids, their states. If it reads no words, they become a picture first, which `painter`, a text-to-image pipeline,
    draws: `maquette.pipeline` gives it.
    glide_model, unclip_model: the models that it draws with via GLIDE and via unCLIP; picture_prompt: what it is asked
    for, with {} in the prompt's place. plain_background: whether the base knows only pictures of one thing on a plain
    ground. base_schedule, upsampler_schedule: the noise that each network was trained with.
    The other settings are what a call takes that does not say: see `Stage`; num_inference_steps, guidance_scale and
    guidance_interval are the base's.
    Raises ValueError for networks that do not go together, or settings that cannot be.
    """

    task = "image-to-3d"
    parts = {  # noqa: RUF012
        "tokenizer": (ClipTokenizer,),
        "clip": (ClipEncoder,),
        "base": (PointDiffusionTransformer,),
        "upsampler": (PointUpsampler,),
        "surface": (SurfaceModel,),
    }
    # A surface in bfloat16 is as rough as crumpled foil.
    exact = ("surface",)

    def __init__(
        self,
        base: PointDiffusionTransformer,
        clip: ClipEncoder | None = None,
        tokenizer: ClipTokenizer | None = None,
        upsampler: PointUpsampler | None = None,
        surface: SurfaceModel | None = None,
        reads_words: bool = False,
        reads_pictures: bool = True,
        glide_model: str = "mini",
        unclip_model: str = "mini",
        picture_prompt: str = "{}",
        plain_background: bool = False,
        base_schedule: str = "squaredcos_cap_v2",
        base_sampler: str = "dpm++",
        num_inference_steps: int = 36,
        base_sigmas: Sequence[float] = (1e-3, 120.0),
        base_churn: float = 0.0,
        guidance_scale: float = 3.0,
        guidance_interval: Sequence[float] | None = (0.05, 40.0),
        upsampler_schedule: str = "linear",
        upsampler_sampler: str = "dpm++",
        upsampler_steps: int = 12,
        upsampler_sigmas: Sequence[float] = (0.01, 160.0),
        upsampler_churn: float = 0.0,
        upsampler_guidance_scale: float = 1.0,
    ):
        arguments = locals()
        _check_parts(base, upsampler, clip, tokenizer)
        super().__init__(arguments)
        self.painter: Any = None
        self._stages(self.config)

    @classmethod
    def find(cls, model: str | os.PathLike) -> Path:
        """As other pipelines, whichever of its tasks a model is found under."""
        return ready_model(model, point_e_task(model))

    @property
    def context_length(self) -> int:
        return self.clip.config["context_length"] if self.clip else 0

    @property
    def conditioning(self) -> str:
        """What the base is told of: "none", "vector" or "grid"."""
        return self.base.config["conditioning"]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        image: Picture | Sequence[Picture] | None = None,
        points: int | None = None,
        mesh: bool = False,
        grid_size: int = 128,
        smooth: bool = False,
        triangles: int | None = None,
        preset: str | None = None,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback_on_step_end: Callback | None = None,
        callback_on_batch_end: Callable[[ShapeOutput], None] | None = None,
    ) -> ShapeOutput:
        """Clouds of a prompt, or a picture, or of each of several, one after the other, as `.clouds`.

        image: PIL or a path, one or several, in place of a prompt; their middle squares are seen. Of an unconditional
        base neither is given. points: how many the base makes, in place of as many as it was trained for: of few each
        stands for several, of many for a part.
        mesh: whether to make a mesh of each, `.meshes`. grid_size, smooth, triangles: of `make_mesh`.
        preset: "default", or "original": as the published notebooks do; None: as the model's settings say.
        num_images_per_prompt: how many clouds of each. num_inference_steps, guidance_scale: of the base.
        seed, generator: as for other pipelines; a prompt's picture is drawn with the same.
        callback_on_step_end: as for other pipelines, with latents [N, 6, points] as the networks see them and "stage"
        "base" or "upsampler". callback_on_batch_end: called with each batch when it is done.
        Raises ValueError or TypeError before any sampling; warns with PromptWarning of a prompt that is cut off.
        """
        pictures = [] if image is None else list(pictures_of(image))
        self._check_call(prompt, pictures, mesh)
        if triangles is not None:
            check_triangles(triangles)
        check_points(points)
        own = with_preset(self.config, preset, FAMILY)
        painter = None if prompt is None or self.painter is None else self.painter.model_name
        request = self.request(
            prompt, num_images_per_prompt, num_inference_steps, guidance_scale, seed, generator,
            own=own, asked={"preset": preset, "points": points, "picture_by": painter}, things=max(1, len(pictures)),
        )  # fmt: skip
        pictures = [picture for picture in pictures for _ in range(num_images_per_prompt)]
        if prompt is not None and self.painter is not None:
            pictures = self._painted(request, generator is not None)
        request = replace(request, given={"pictures": pictures})
        in_base: int = points or self.base.config["n_ctx"]
        made = ShapeOutput([], [] if mesh else None, pictures or None, request.settings)

        def solid(cloud: PointCloud) -> Trimesh:
            return make_mesh(self.surface, cloud, grid_size, smooth=smooth, triangles=triangles)

        def draw(some: Request, on_step: OnStageStep) -> Tensor:
            return self._draw(some, some.given["pictures"], in_base, on_step)

        def finished(drawn: Tensor, settings: list[dict[str, str]]) -> None:
            done = slice(len(made.clouds), len(made.clouds) + len(drawn))
            clouds = [PointCloud.from_tensor(cloud) for cloud in drawn.cpu()]
            made.clouds += clouds
            meshes = [solid(cloud) for cloud in clouds] if mesh else None
            if made.meshes is not None:
                made.meshes += meshes or []
            if callback_on_batch_end is not None:
                callback_on_batch_end(ShapeOutput(clouds, meshes, pictures[done] or None, settings))

        steps = request.steps + (request.sampling["upsampler_steps"] if self.upsampler else 0)
        self.in_batches(request, draw, finished, callback_on_step_end, steps)
        return made

    def truncations(self, prompts: Sequence[str]) -> list[str]:
        """As of other pipelines, if it is the base that reads the prompts."""
        return super().truncations(prompts) if self.painter is None and self.config["reads_words"] else []

    def _check_call(self, prompt: Any, pictures: list[Any], mesh: bool) -> None:
        """Raises ValueError for what this model cannot make anything of."""
        if prompt is not None and pictures:
            raise ValueError("there are both a prompt and a picture; give one of them")
        if self.conditioning == "none" and (prompt is not None or pictures):
            raise ValueError(
                f"{self.model_name} makes what it likes and reads nothing; give neither words nor a picture"
            )
        if self.conditioning != "none" and prompt is None and not pictures:
            raise ValueError("there is nothing to make a shape of; give a prompt or a picture")
        if prompt is not None and not self.config["reads_words"] and self.painter is None:
            raise ValueError(
                f"{self.model_name} reads no words; give a picture, or a text-to-image pipeline as its `painter`"
            )
        if pictures and not self.config["reads_pictures"]:
            raise ValueError(f"{self.model_name} reads words and no pictures; give a prompt")
        if mesh and self.surface is None:
            raise ValueError(
                f"{self.model_name} has no surface model and makes no meshes; ask for clouds alone"
            )

    def _painted(self, request: Request, has_generators: bool) -> list[Image]:
        """A picture of each sample's prompt, from the sample's own seed or generator."""
        prompts = [self.config["picture_prompt"].format(prompt) for prompt in request.prompts]
        seed = None if has_generators else int(request.settings[0]["seed"])
        source = {"generator": request.generators} if has_generators else {"seed": seed}
        return self.painter(prompts, **source).images

    def _seen(self, prompts: Sequence[str], pictures: Sequence[Image]) -> dict[str, Tensor]:
        """What CLIP sees in each sample's picture, or reads in its words: "vector" [N, D], "grid" [N, width, tokens].

        What is the same is looked at once. Empty if the base is told of nothing.
        """
        if self.conditioning == "none":
            return {}
        if pictures:
            different = list({id(picture): picture for picture in pictures}.values())
            preprocess = Preprocess.from_config(self.clip.config)
            pixels = torch.stack([preprocess(picture) for picture in different]).to(self.device)
            vector, grid = self.clip.encode_image(pixels)
            if grid is not None:  # a ResNet has none
                grid = rearrange(grid, "n tokens width -> n width tokens")
            index = [next(i for i, other in enumerate(different) if other is picture) for picture in pictures]
        else:
            different = list(dict.fromkeys(prompts))
            tokens, lengths = self.tokenizer.with_lengths(different, self.context_length, truncate=True)
            vector, states = self.clip.encode_text(tokens.to(self.device))
            grid = None
            if self.conditioning == "grid":
                grid = text_grid(states, lengths.to(self.device), self._tokens)
            index = [different.index(prompt) for prompt in prompts]
        seen = {"vector": F.normalize(vector, dim=-1), "grid": grid}
        return {name: value[index] for name, value in seen.items() if value is not None}

    @property
    def _tokens(self) -> int:
        """How many patches there are in a picture's grid."""
        return (self.clip.config["image_resolution"] // self.clip.config["vision_patch_size"]) ** 2

    def _told(self, network: PointDiffusionTransformer, some: Request) -> dict[str, Tensor]:
        """The arguments that tell a network what is seen, zeros if nothing is."""
        kind, width = network.config["conditioning"], network.config["clip_width"]
        if kind == "none":
            return {}
        name, shape = {"vector": ("embedding", (width,)), "grid": ("grid", (width, self._tokens))}[kind]
        seen = some.given.get(kind)
        return {name: torch.zeros(len(some), *shape, device=self.device) if seen is None else seen}

    def _draw(self, some: Request, pictures: Sequence[Image], points: int, on_step: OnStageStep) -> Tensor:
        """Clouds [N, points, 6] of samples' pictures or, if there are none, their prompts. points: of the base."""
        some = replace(some, given=self._seen(some.prompts, pictures))
        first, second = self._stages(some.sampling)
        draw = normal_draws(some.generators, (6, points), self.device)
        told = self._told(self.base, some)
        cloud = sample_points(self.base, first, draw, **told, on_step=partial(on_step, stage="base"))
        if self.upsampler is not None:
            draw = normal_draws(some.generators, (6, self.upsampler.config["n_ctx"]), self.device)
            told = self._told(self.upsampler, some)
            if not any(value.any() for value in told.values()):
                # There is nothing to lean away from: as the original's notebook for words does.
                second = replace(second, guidance_scale=1.0)
            on_step = partial(on_step, stage="upsampler")
            cloud = sample_points(self.upsampler, second, draw, **told, low_res=cloud, on_step=on_step)
        return as_clouds(cloud)

    def _stages(self, sampling: Mapping[str, Any]) -> tuple[Stage, Stage]:
        """How the base and the upsampler are sampled from. Raises ValueError as `Stage`."""
        stages = []
        for name, steps, scale, interval in (
            ("base", "num_inference_steps", "guidance_scale", sampling["guidance_interval"]),
            ("upsampler", "upsampler_steps", "upsampler_guidance_scale", None),
        ):
            schedule, (low, high) = self.config[f"{name}_schedule"], sampling[f"{name}_sigmas"]
            sampler, churn = sampling[f"{name}_sampler"], sampling[f"{name}_churn"]
            stages.append(
                Stage(schedule, sampling[steps], (low, high), sampler, churn, sampling[scale], interval)
            )
        return stages[0], stages[1]


def _check_parts(base, upsampler, clip, tokenizer) -> None:
    if isinstance(base, PointUpsampler):
        raise ValueError(
            "the network given as base is an upsampler; give a base network, and this one as upsampler"
        )
    networks = {"base": base, "upsampler": upsampler}
    for name, network in networks.items():
        if network is None or (kind := network.config["conditioning"]) == "none":
            continue
        if clip is None or tokenizer is None:
            raise ValueError(
                f"the {name} is told what a CLIP sees; give the CLIP that it was trained with, and its tokenizer"
            )
        gives = clip.config["embed_dim" if kind == "vector" else "vision_width"]
        if network.config["clip_width"] != gives or (kind == "grid" and not clip.config["vision_patch_size"]):
            raise ValueError(
                f"the {name} reads a {kind} of {network.config['clip_width']} channels, and the CLIP given makes "
                f"{gives}; give the CLIP that it was trained with"
            )
