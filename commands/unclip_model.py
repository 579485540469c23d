"""The model of the commands that draw pictures anew with unCLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ..pipelines.convert import ready_model
from .interrupt import cleaning_up_on_interrupt

if TYPE_CHECKING:
    from ..pipelines import UnCLIPVariationPipeline


def load_unclip(model: str) -> UnCLIPVariationPipeline:
    """The pipeline of a model, downloaded if it must be. Says that it is being loaded."""
    with cleaning_up_on_interrupt():
        ready_model(model, "image-variation")
    typer.echo(f"loading {model} …", err=True)
    from ..pipelines import pipeline

    return pipeline("image-variation", model)
