"""`maquette train`: any stage on your own data."""

from pathlib import Path
from typing import Annotated

import typer

from .interrupt import stoppable

STAGES = (
    "clip", "glide", "glide-upsampler", "glide-noised-clip",
    "unclip-prior", "unclip-autoregressive-prior", "unclip-decoder", "unclip-upsampler",
    "point-e", "point-e-upsampler", "point-e-surface", "point-e-classifier",
)  # fmt: skip


def train(
    stage: Annotated[str, typer.Argument(help=f"What to train: {', '.join(STAGES)}.")],
    config: Annotated[Path, typer.Option(help="The recipe, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, logs and the trained model.")],
    data: Annotated[str | None, typer.Option(help="A folder of shards, or 'data/{first,second}'.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Train until this step instead of the recipe's.")] = None,
) -> None:
    """Train a stage on your data; it can be stopped at any time and resumed."""
    if stage not in STAGES:
        raise ValueError(f"unknown stage {stage!r}; known are {', '.join(STAGES)}")
    if not config.exists():
        raise FileNotFoundError(
            f"there is no recipe {config}; mini's lie in a clone, as diffusion/mini.yaml does"
        )
    if stage == "clip":
        from ..clip.training.stage import ClipStage as Stage
    elif stage == "glide-upsampler":
        from ..diffusion.training.upsampler_stage import UpsamplerStage as Stage
    elif stage == "glide-noised-clip":
        from ..diffusion.training.noised_clip_stage import NoisedClipStage as Stage
    elif stage == "unclip-prior":
        from ..unclip.training.prior_stage import PriorStage as Stage
    elif stage == "unclip-autoregressive-prior":
        from ..unclip.training.autoregressive_stage import AutoregressiveStage as Stage
    elif stage == "unclip-decoder":
        from ..unclip.training.decoder_stage import DecoderStage as Stage
    elif stage == "unclip-upsampler":
        from ..unclip.training.upsampler_stage import LargeUpsamplerStage as Stage
    elif stage == "point-e":
        from ..point_e.training.base_stage import PointStage as Stage
    elif stage == "point-e-upsampler":
        from ..point_e.training.upsampler_stage import PointUpsamplerStage as Stage
    elif stage == "point-e-surface":
        from ..point_e.training.surface_stage import SurfaceStage as Stage
    elif stage == "point-e-classifier":
        from ..point_e.training.classifier_stage import ClassifierStage as Stage
    else:
        from ..diffusion.training.stage import GlideStage as Stage
    from ..training import train as train_stage

    with stoppable(str):
        typer.echo(train_stage(Stage, config, data, out, resume, steps).resolve())
