"""A hint for who asks a model for what its world does not hold."""

import typer

from ..weights import known_models


def hint_at_toybox(model: str, prompt: str) -> None:
    """Say which words a model that was shown Toybox only does not know."""
    if known_models().get(model, {}).get("knows") == "toybox":
        from ..pipelines.toybox_words import toybox_hint

        if hint := toybox_hint(prompt):
            typer.echo(f"hint: {model} draws this, but {hint}", err=True)
