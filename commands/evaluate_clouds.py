"""`maquette evaluate clouds`: how good clouds are, by themselves and beside others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .bars import print_lines
from .options import AsJson

if TYPE_CHECKING:
    from ..point_e import PointCloud, PointNetClassifier
    from ..point_e.evaluation import CloudSet

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
    from ..point_e.evaluation import read_clouds

    sets = [read_clouds(path) for path in (a, b) if path is not None]
    result: dict[str, float] = {}
    if len(sets) == 2:
        result |= _pairs(*sets)
        if not result and classifier is None and clip is None:
            raise ValueError(f"{a} and {b} have no clouds of the same name to compare; give --classifier")
    if classifier is not None:
        result |= _classes(sets, classifier)
    if clip is not None:
        result["r_precision"] = _r_precision(sets[0], clip)
    skipped = [sentence for each in sets for sentence in each.skipped]
    sizes = {name: len(each.clouds) for name, each in zip(("a", "b"), sets, strict=False)}
    if as_json:
        typer.echo(json.dumps({**sizes, **result, "skipped": skipped}, indent=1))
    else:
        lines = [f"{'clouds in ' + name.upper():28}{size:12}" for name, size in sizes.items()]
        print_lines(lines + [f"{SHOWN[name]:28}{value:12.6g}" for name, value in result.items()])
    for sentence in skipped:
        typer.echo(f"left out: {' '.join(sentence.split())}", err=True)


def _pairs(first: CloudSet, second: CloudSet) -> dict[str, float]:
    """Two single clouds are a pair, whatever they are called."""
    from ..point_e.evaluation import chamfer_distance, f_score

    pairs = [(first.clouds[name], second.clouds[name]) for name in first.clouds if name in second.clouds]
    if len(first.clouds) == len(second.clouds) == 1:
        pairs = [(*first.clouds.values(), *second.clouds.values())]
    if not pairs:
        return {}
    means = {
        name: sum(measure(made.coords, true.coords) for made, true in pairs) / len(pairs)
        for name, measure in (("chamfer", chamfer_distance), ("f_score", f_score))
    }
    return {"pairs": len(pairs), **means}


def _classes(sets: list[CloudSet], classifier: str) -> dict[str, float]:
    from ..point_e.evaluation import cloud_judge, frechet_distance, inception_score
    from ..point_e.evaluation.measures import classified

    clouds = [_seen(each) for each in sets]
    if classifier == cloud_judge.JUDGE:
        seen = [cloud_judge.judged(each, progress=True) for each in clouds]
    else:
        net = _read_classifier(classifier)
        seen = [classified(net, [cloud.coords for cloud in each], progress=True) for each in clouds]
    result = {
        name: inception_score(each.log_probabilities)
        for name, each in zip(("p_is", "p_is_of_b"), seen, strict=False)
    }
    if len(seen) == 2 and min(map(len, clouds)) < 2:
        sets[0].skipped.append("P-FID: it needs two clouds or more on both sides")
    elif len(seen) == 2:
        result = {"p_fid": frechet_distance(seen[0].features, seen[1].features), **result}
    return result


def _seen(clouds: CloudSet) -> list[PointCloud]:
    """Those with as many points as a classifier looks at; the others are reported."""
    from ..point_e.classifier import FEWEST

    for name, cloud in clouds.clouds.items():
        if len(cloud) < FEWEST:
            clouds.skipped.append(
                f"{name} from P-FID and P-IS: it has {len(cloud)} points of {FEWEST} or more"
            )
    seen = [cloud for cloud in clouds.clouds.values() if len(cloud) >= FEWEST]
    if not seen:
        raise ValueError(f"a classifier looks at {FEWEST} points or more, and no cloud has as many")
    return seen


def _read_classifier(name: str) -> PointNetClassifier:
    import torch

    from ..point_e import PointNetClassifier
    from ..weights.download import find_weights
    from ..weights.load_saved import load_saved
    from ..weights.read_weights import read_weights
    from ..weights.table import known_models

    if name in known_models("cloud-evaluation"):
        return PointNetClassifier.from_original(read_weights(find_weights(name)))
    if Path(name).is_dir():
        return load_saved(PointNetClassifier, Path(name), torch.float32)
    return PointNetClassifier.from_original(read_weights(Path(name)))


def _r_precision(clouds: CloudSet, clip: str) -> float:
    if without := [name for name in clouds.clouds if name not in clouds.captions]:
        raise ValueError(f"{without[0]} has no caption; R-precision needs {without[0]}.txt beside each cloud")
    from ..clip.model import ClipModel
    from ..point_e.evaluation import r_precision

    captions = [clouds.captions[name] for name in clouds.clouds]
    return r_precision(ClipModel.from_pretrained(clip), list(clouds.clouds.values()), captions, progress=True)
