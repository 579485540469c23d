"""`maquette evaluate clip`: how good a model is on your data."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .bars import fitted, print_lines
from .options import AsJson, ClipName

SHOWN = 50


def evaluate_clip(
    data: Annotated[
        str,
        typer.Option(help="A folder with a sub-folder for each class, or a folder of shards."),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            help="The classes' names, as for classify: those of sub-folders in any order, or new ones in the order of "
            "theirs, or of the shards' numbers; otherwise their own."
        ),
    ] = None,
    templates: Annotated[
        str | None, typer.Option(help="Sentences to try each label in, as for classify.")
    ] = None,
    model: ClipName = "mini",
    probe: Annotated[
        str | None, typer.Option(help="Data to train a linear probe and nearest neighbours on.")
    ] = None,
    retrieval: Annotated[
        bool,
        typer.Option(
            "--retrieval", help="Find captions by picture and pictures by caption instead (shards)."
        ),
    ] = False,
    confusion: Annotated[Path | None, typer.Option(help="Picture file: draw what is taken for what.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a CLIP: top-1 and top-5 of each class, probes, or recall.

    Pictures that cannot be read are left out and reported.
    """
    if retrieval:
        if any(option is not None for option in (labels, templates, probe, confusion)):
            raise ValueError(
                "--retrieval goes by captions alone; leave --labels, --templates, --probe, --confusion out"
            )
        result, skipped = _retrieval(data, model)
        lines = _retrieval_lines(result)
    else:
        if confusion is not None:
            from ..pipelines.picture_files import check_output

            check_output(confusion)
        evaluations, skipped = _zero_shot(data, labels, templates, model, probe)
        result = {name: evaluation.as_dict() for name, evaluation in evaluations.items()}
        lines = _class_lines(result)
        if confusion is not None:
            _draw(evaluations["zero-shot"], confusion)
    if as_json:
        typer.echo(json.dumps({"model": model, "data": data, **result, "skipped": skipped}, indent=1))
    else:
        print_lines(lines)
    for sentence in skipped:
        typer.echo(f"left out: {' '.join(sentence.split())}", err=True)
    if confusion is not None and not as_json:
        typer.echo(confusion.resolve())


def _zero_shot(data, labels, templates, model, probe) -> tuple[dict[str, Any], list[str]]:
    from ..clip.evaluation.labelled_pictures import read_labelled
    from ..clip.templates import imagenet_classes, read_labels, read_templates

    # All 1,000 by their number, although two names are there twice.
    names = imagenet_classes() if labels == "imagenet" else labels and read_labels(labels)
    sentences = read_templates(templates)
    test = read_labelled(data, names)
    train = read_labelled(probe, names) if probe is not None else None
    from ..clip.evaluation.evaluate import evaluate_model
    from ..clip.model import ClipModel

    return evaluate_model(ClipModel.from_pretrained(model), test, sentences, train, progress=True)


def _retrieval(data, model) -> tuple[dict[str, Any], list[str]]:
    from ..clip.evaluation.labelled_pictures import read_captioned

    pictures, captions = read_captioned(data)
    from ..clip.evaluation.retrieval import evaluate_retrieval
    from ..clip.model import ClipModel

    return evaluate_retrieval(ClipModel.from_pretrained(model), pictures, captions, progress=True)


def _retrieval_lines(result) -> list[str]:
    ways = {"text_to_image": "pictures by caption", "image_to_text": "captions by picture"}
    recalls = {
        name: "".join(f"  {_percent(value)} in the first {k}" for k, value in result[way].items())
        for way, name in ways.items()
    }
    return [f"{result['pairs']} pairs", *(f"{name}{recall}" for name, recall in recalls.items())]


def _class_lines(result) -> list[str]:
    """The summary, and the classes of zero-shot: all, or the worst if they are many."""
    classes = result["zero-shot"]["classes"]
    width = min(30, max(map(len, ("linear probe", *(row["label"] for row in classes)))))
    head = f"{'pictures':>10}{'top-1':>9}{'top-5':>9}"
    lines = [f"{' ' * width}{head}  mean of classes"]
    for name, row in result.items():
        numbers = f"{row['pictures']:10}{_percent(row['top1'])}{_percent(row['top5'])}"
        lines.append(f"{fitted(name, width)}{numbers}{_percent(row['mean_per_class'])}")
    shown = classes
    which = "zero-shot, by class"
    if len(classes) > SHOWN:
        shown = sorted(classes, key=lambda row: row["top1"])[:SHOWN]
        which = f"zero-shot, the {SHOWN} worst of {len(classes)} classes (--json has all)"
    lines += ["", which, f"{' ' * width}{head}  most often taken for"]
    for row in shown:
        numbers = f"{row['pictures']:10}{_percent(row['top1'])}{_percent(row['top5'])}"
        lines.append(f"{fitted(row['label'], width)}{numbers}  {fitted(row['taken_for'] or '', 30)}".rstrip())
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:7.1f} %"


def _draw(evaluation, path: Path) -> None:
    title = f"zero-shot, top-1 {100 * evaluation.top1:.1f} %; rows: what it is, columns: what it was called"
    from ..clip.evaluation.confusion_picture import confusion_picture
    from ..pipelines.picture_files import save_pictures

    save_pictures([(path, confusion_picture(evaluation.confusion, evaluation.labels, title), {})])
