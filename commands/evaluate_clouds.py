"""`maquette evaluate clouds`: how good clouds are, by themselves and beside others."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .bars import print_lines
from .options import AsJson

SHOWN = {
    "p_fid": "P-FID of A to B",
    "p_is": "P-IS of A",
    "p_is_of_b": "P-IS of B",
    "pairs": "clouds of the same name",
    "chamfer": "Chamfer distance, mean",
    "f_score": "F-score within 0.02, mean",
    "r_precision": "CLIP R-precision of A",
}


def evaluate_clouds(
    a: Annotated[Path, typer.Argument(help="A cloud (.ply, .npz), a folder of clouds, or shards (.tar).")],
    b: Annotated[Path | None, typer.Argument(help="Reference clouds to compare A with.")] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            help="A PointNet++ for P-FID and P-IS: point-e-pointnet, its file, the folder of one that you trained, or "
            "toybox, the one that ships, for Toybox's things."
        ),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            help="A CLIP's name, file or folder: R-precision of A's clouds by captions NAME.txt beside them."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure clouds: P-FID, P-IS, Chamfer distance and F-score (pairs of one name), CLIP R-precision.

    Clouds that cannot be read are left out and reported.
    """
    if b is None and classifier is None and clip is None:
        raise ValueError("nothing to measure: give clouds to compare with, --classifier or --clip")
    from ..point_e.evaluation import evaluate_sets, read_clouds

    sets = [read_clouds(path) for path in (a, b) if path is not None]
    figures, left_out = evaluate_sets(*sets, classifier=classifier, clip=clip, progress=True)
    if not figures:
        raise ValueError(f"{a} and {b} have no clouds of the same name to compare; give --classifier")
    skipped = [sentence for each in sets for sentence in each.skipped] + left_out
    sizes = {name: len(each.clouds) for name, each in zip(("a", "b"), sets, strict=False)}
    if as_json:
        typer.echo(json.dumps({**sizes, **figures, "skipped": skipped}, indent=1))
    else:
        lines = [f"{'clouds in ' + name.upper():28}{size:12}" for name, size in sizes.items()]
        print_lines(lines + [f"{SHOWN[name]:28}{value:12.6g}" for name, value in figures.items()])
    for sentence in skipped:
        typer.echo(f"left out: {' '.join(sentence.split())}", err=True)
