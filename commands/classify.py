"""`maquette classify`: which of your labels fits a picture."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..clip.picture_sources import embed_sources, pictures_in
from ..clip.templates import read_labels, read_templates
from .bars import print_bars
from .options import AsJson, ClipName

SHOWN = 5


def classify(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", metavar="IMAGE")],
    labels: Annotated[str, typer.Option(help="'cat, dog, bird', a text file with one a line, or imagenet.")],
    templates: Annotated[
        str | None,
        typer.Option(
            help="Sentences to try each label in: imagenet, simple, one such as 'a {}', or a text file with one a line."
            " Otherwise: a photo of a {}."
        ),
    ] = None,
    model: ClipName = "mini",
    top: Annotated[
        int | None, typer.Option("-k", help="How many labels to show; otherwise 5, or all as JSON.", min=1)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which of your labels fits a picture, and how surely.

    A picture that cannot be read is reported and the others are done; then the exit code is 2.
    """
    given_labels = read_labels(labels)
    sentences = read_templates(templates)
    found: list[Path] = []
    for path in pictures:
        found += pictures_in(path) if path.is_dir() else [path]
    if len(found) == 1 or not any(path.is_file() for path in found):
        from ..clip.preprocess import open_upright

        open_upright(found[0])

    from ..clip.zero_shot import ZeroShotClassifier

    classifier = ZeroShotClassifier.from_pretrained(model, labels=given_labels, templates=sentences)
    classifier.label_vectors()
    embedded = embed_sources(classifier.model, found, progress=len(found) > 100)
    ranked = classifier.rank(embedded.vectors, top_k=top or (None if as_json else SHOWN))
    results: dict[int, Any] = {**dict(zip(embedded.kept, ranked, strict=True)), **dict(embedded.skipped)}
    if as_json:
        typer.echo(json.dumps([_as_json(found[i], results[i]) for i in sorted(results)], indent=1))
    else:
        for number, i in enumerate(embedded.kept):
            print_bars(str(found[i]) if len(found) > 1 else None, results[i], first=not number)
    for _, sentence in embedded.skipped:
        typer.echo(f"maquette: {' '.join(sentence.split())}", err=True)
    if embedded.skipped:
        raise typer.Exit(2)


def _as_json(path: Path, result: Any) -> dict[str, Any]:
    return {"picture": str(path), "error" if isinstance(result, str) else "labels": result}
