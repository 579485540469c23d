"""How good a set of clouds is: beside a set of references, and by what a classifier and a CLIP see in it."""

from __future__ import annotations

from pathlib import Path

import torch

from ...weights.download import find_weights
from ...weights.load_saved import load_saved
from ...weights.read_weights import read_weights
from ...weights.table import known_models
from ..classifier import FEWEST, Classified, PointNetClassifier
from ..point_cloud import PointCloud
from .cloud_judge import JUDGE, judged
from .cloud_sets import CloudSet
from .measures import chamfer_distance, classified, f_score, frechet_distance, inception_score
from .r_precision import r_precision


def evaluate_sets(
    made: CloudSet,
    references: CloudSet | None = None,
    classifier: str | None = None,
    clip: str | None = None,
    progress: bool = False,
) -> tuple[dict[str, float], list[str]]:
    """The figures that can be had of what is given, by their names.

    With references: "pairs", how many clouds have the same name in both sets (two single clouds are a pair, whatever
    they are called), and the mean "chamfer" and "f_score" of the pairs, if there are any.
    With a classifier: "p_is" and, if there are references, their "p_is_of_b", and "p_fid". With a CLIP: "r_precision".
    classifier: "toybox", Toybox's judge, or a PointNet++'s known name, file or folder. clip: as for
    `ClipModel.from_pretrained`.
    Also returns a sentence for each cloud or figure that was left out. Raises ValueError where no cloud of a set has
    points enough for a classifier, or a cloud no caption for R-precision; and what the loading of either raises.
    """
    figures: dict[str, float] = {}
    skipped: list[str] = []
    if references is not None:
        figures |= _compare_pairs(made, references)
    if classifier is not None:
        sets = [made] if references is None else [made, references]
        seen = _classified([_dense_enough(each, skipped) for each in sets], classifier, progress)
        few = min(len(each.features) for each in seen) < 2
        if references is not None and few:
            skipped.append("P-FID: it needs two clouds or more on both sides")
        elif references is not None:
            figures["p_fid"] = frechet_distance(seen[0].features, seen[1].features)
        for name, each in zip(("p_is", "p_is_of_b"), seen, strict=False):
            figures[name] = inception_score(each.log_probabilities)
    if clip is not None:
        figures["r_precision"] = _r_precision(made, clip, progress)
    return figures, skipped


def _compare_pairs(made: CloudSet, references: CloudSet) -> dict[str, float]:
    true = references.clouds
    pairs = [(cloud, true[name]) for name, cloud in made.clouds.items() if name in true]
    if len(made.clouds) == len(true) == 1:
        pairs = [(*made.clouds.values(), *true.values())]
    if not pairs:
        return {}
    means = {
        name: sum(measure(first.coords, second.coords) for first, second in pairs) / len(pairs)
        for name, measure in (("chamfer", chamfer_distance), ("f_score", f_score))
    }
    return {"pairs": len(pairs), **means}


def _dense_enough(clouds: CloudSet, skipped: list[str]) -> list[PointCloud]:
    """Those with as many points as a classifier looks at; `skipped` gets a sentence for each of the others."""
    for name, cloud in clouds.clouds.items():
        if len(cloud) < FEWEST:
            skipped.append(f"{name} from P-FID and P-IS: it has {len(cloud)} points of {FEWEST} or more")
    seen = [cloud for cloud in clouds.clouds.values() if len(cloud) >= FEWEST]
    if not seen:
        raise ValueError(f"a classifier looks at {FEWEST} points or more, and no cloud has as many")
    return seen


def _classified(sets: list[list[PointCloud]], classifier: str, progress: bool) -> list[Classified]:
    if classifier == JUDGE:
        return [judged(each, progress) for each in sets]
    net = _read_classifier(classifier)
    return [classified(net, [cloud.coords for cloud in each], progress=progress) for each in sets]


def _read_classifier(name: str) -> PointNetClassifier:
    if name in known_models("cloud-evaluation"):
        return PointNetClassifier.from_original(read_weights(find_weights(name)))
    if Path(name).is_dir():
        return load_saved(PointNetClassifier, Path(name), torch.float32)
    return PointNetClassifier.from_original(read_weights(Path(name)))


def _r_precision(made: CloudSet, clip: str, progress: bool) -> float:
    if without := [name for name in made.clouds if name not in made.captions]:
        raise ValueError(f"{without[0]} has no caption; R-precision needs {without[0]}.txt beside each cloud")
    from ...clip.model import ClipModel

    captions = [made.captions[name] for name in made.clouds]
    return r_precision(
        ClipModel.from_pretrained(clip), list(made.clouds.values()), captions, progress=progress
    )
