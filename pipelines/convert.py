"""Original checkpoints: each recognised by its weights, several made into a model folder, a name into a model.

Nothing heavy is imported before a file is read, so that a command may ask for a model first.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ..weights import cached_path, find_model, find_weights, known_models, read_weights
from ..weights.download import offline
from ..weights.model_folder import converted_folder, write_model_folder
from ..weights.write_whole import sweep
from . import karlo, point_e_files

if TYPE_CHECKING:
    import torch

    from ..diffusion import GlideTokenizer, GlideUNet

# What a checkpoint of GLIDE is, by the channels that its first layer reads.
BASE, UPSAMPLER, INPAINT_BASE, INPAINT_UPSAMPLER = (
    "GLIDE's base network", "GLIDE's upsampler", "GLIDE's inpainting base network", "GLIDE's inpainting upsampler",
)  # fmt: skip
NETWORKS = {3: BASE, 6: UPSAMPLER, 7: INPAINT_BASE, 10: INPAINT_UPSAMPLER}
CLIP_IMAGE, CLIP_TEXT = (
    "GLIDE's noise-aware CLIP's image encoder", "GLIDE's noise-aware CLIP's text encoder",
)  # fmt: skip
# What else a checkpoint is, by the first of these weights that it has.
MARKS = {
    "blocks.input.w_voc": CLIP_TEXT,
    "blocks.input.patch_proj": CLIP_IMAGE,
    **karlo.MARKS,
    **point_e_files.MARKS,
}
# The file that each was published as.
PUBLISHED = {
    BASE: "base.pt",
    UPSAMPLER: "upsample.pt",
    INPAINT_BASE: "base_inpaint.pt",
    INPAINT_UPSAMPLER: "upsample_inpaint.pt",
    CLIP_IMAGE: "clip_image_enc.pt",
    CLIP_TEXT: "clip_text_enc.pt",
    **karlo.PUBLISHED,
    **point_e_files.PUBLISHED,
}
# The sets that make a model: the pipeline that loads it, what must be there, and what may be.
SETS = (
    ("GlidePipeline", (BASE, CLIP_IMAGE, CLIP_TEXT), (UPSAMPLER,)),
    ("GlidePipeline", (BASE,), (UPSAMPLER,)),
    ("GlideInpaintPipeline", (INPAINT_BASE,), (INPAINT_UPSAMPLER,)),
    ("UnCLIPPipeline", (karlo.PRIOR, karlo.STATISTICS, karlo.DECODER, karlo.CLIP), (karlo.UPSAMPLER,)),
    ("UnCLIPVariationPipeline", (karlo.DECODER, karlo.CLIP), (karlo.UPSAMPLER,)),
    ("PointEPipeline", (point_e_files.BASE, karlo.CLIP), (point_e_files.UPSAMPLER, point_e_files.SURFACE)),
)
BASES = {"text-to-image": (BASE, INPAINT_BASE), "inpainting": (INPAINT_BASE,)}
# Guidance where it tells what a picture shows; at less noise it costs as much and only coarsens textures.
SETTINGS = {
    "schedule": "squaredcos_cap_v2",
    "guidance_interval": (0.5, 1000),
    "upsampler_schedule": "linear",
}
VOCABULARY = ("encoder.json", "vocab.bpe")


def ready_model(model: str | os.PathLike, task: str) -> Path:
    """The model folder, or the file of weights, that a name or a path stands for, ready to load.

    A published model is downloaded and made into a folder in the cache on first use; several processes that ask at once
    do it once. A model of the Hub comes to lie in the Hub's own cache.
    Raises what `find_model`, `find_weights`, `convert` and huggingface_hub raise.
    """
    name = os.fspath(model)
    entry = known_models(task).get(name)
    if entry is None and os.path.isfile(name):
        return Path(name)
    if entry is not None and "repository" in entry:
        from huggingface_hub import snapshot_download

        wanted = ["*.json", "*.txt", "*.safetensors"]
        return Path(snapshot_download(entry["repository"], allow_patterns=wanted, local_files_only=offline()))
    if entry is None or not entry.get("converted"):
        return find_model(name, task)
    folder = converted_folder(name, task)
    if not folder.is_dir():
        files = [find_weights(name, part) for part in entry["tasks"][task]]
        words = [part for part in VOCABULARY if part in entry["files"]]
        vocabulary = [find_weights(name, part) for part in words]
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            sweep(folder)
            if not folder.is_dir():
                convert(files, folder, vocabulary)
    return folder


def convert(
    files: Sequence[str | os.PathLike],
    folder: str | os.PathLike,
    vocabulary: Sequence[str | os.PathLike] | None = None,
) -> None:
    """Make a model folder of GLIDE's, Karlo's or Point-E's original checkpoints, whole or not at all.

    files: of GLIDE a base network and, if there are any, its upsampler and both encoders of the noise-aware CLIP; of
    Karlo the prior with its statistics, the decoder, the CLIP and, if there is one, the upsampler; of Point-E a base
    network, the CLIP and, if there are any, upsampler and surface model; in any order.
    GLIDE's weights keep their format, the others' become float32.
    vocabulary: GPT-2's encoder.json and vocab.bpe; None: those of `find_vocabulary`.
    Raises ValueError for a file that is none of these or a set that is no model, and what `read_weights` and
    `write_model_folder` raise. No more than one network is in memory at a time.
    """
    found: dict[str, Path] = {}
    for path in map(Path, files):
        kind = recognise(path)
        if kind in found:
            raise ValueError(f"{found[kind]} and {path} are both {kind}; give one")
        found[kind] = path
    pipeline = _pipeline(found)
    if pipeline.startswith("UnCLIP"):
        write_model_folder(folder, pipeline, karlo.original_parts(found), {})
        return
    if pipeline == "PointEPipeline":
        parts = point_e_files.original_parts(found, found[karlo.CLIP])
        write_model_folder(folder, pipeline, parts, point_e_files.settings(found[point_e_files.BASE]))
        return
    tokenizer = find_vocabulary(vocabulary)
    write_model_folder(folder, pipeline, _parts(found, tokenizer), SETTINGS)


def recognise(path: str | os.PathLike) -> str:
    """Which of the published checkpoints a file is. Raises ValueError if it is none, and what `read_weights` raises."""
    weights = read_weights(path)
    first, kind = weights.get("input_blocks.0.0.weight"), None
    if first is not None and first.dim() == 4 and "token_embedding.weight" in weights:
        kind = NETWORKS.get(first.shape[1])
    elif list(weights) == ["0", "1"] and all(value.dim() == 1 for value in weights.values()):
        kind = karlo.STATISTICS  # two vectors without names
    kind = kind or next((kind for mark, kind in MARKS.items() if mark in weights), None)
    if kind is None:
        *others, last = PUBLISHED
        raise ValueError(f"{path} is not one of the known checkpoints: {', '.join(others)} or {last}")
    return kind


def load_checkpoint(path: Path, task: str, dtype: torch.dtype) -> dict[str, Any]:
    """The parts that one base checkpoint makes for a task, in `dtype`, with what it needs. Warns of what it lacks.

    Raises ValueError that says what the file is if it is another one.
    """
    if task in point_e_files.TASKS:
        return _point_e_alone(path, dtype)
    if task not in BASES:
        raise ValueError(
            f"{path} is a file; give a model's folder, which `maquette convert` makes of several files"
        )
    kind, expected = recognise(path), BASES[task]
    if kind not in expected:
        raise ValueError(f"{path} is {kind}; for {task} {expected[0]} is expected")
    tokenizer = find_vocabulary()
    unet = _network(path, tokenizer, dtype)
    warnings.warn(
        f"{path} is {kind} alone, which draws {unet.config['image_size']} px; "
        "`maquette convert` makes one model of it and its upsampler",
        stacklevel=3,
    )
    return {"unet": unet, "tokenizer": tokenizer}


def _point_e_alone(path: Path, dtype: torch.dtype) -> dict[str, Any]:
    from torch.nn import Module

    kind = recognise(path)
    if kind != point_e_files.BASE:
        raise ValueError(f"{path} is {kind}; for a cloud {point_e_files.BASE} is expected")
    parts = dict(point_e_files.original_parts({kind: path}, find_weights("ViT-L/14")))
    warnings.warn(
        f"{path} is {kind} alone, which makes coarse clouds and no meshes; "
        "`maquette convert` makes one model of it, the upsampler and the surface model",
        stacklevel=4,
    )
    # As any module: diffusers' own `to` warns of layers that these networks have not.
    return {
        name: Module.to(part, dtype) if isinstance(part, Module) else part for name, part in parts.items()
    }


def find_vocabulary(files: Sequence[str | os.PathLike] | None = None) -> GlideTokenizer:
    """GLIDE's tokenizer: of GPT-2's encoder.json and vocab.bpe, in this order, or else of what is here of them.

    It is looked for where `maquette` keeps it and in the Hub's cache as `gpt2`; else it is downloaded.
    """
    from huggingface_hub import try_to_load_from_cache

    from ..diffusion import GlideTokenizer

    if files is not None:
        return GlideTokenizer.from_files(*files)
    published = [known_models()["glide"]["files"][name] for name in VOCABULARY]
    if not all(cached_path(one["url"], one["sha256"]).is_file() for one in published):
        for repository in ("openai-community/gpt2", "gpt2"):
            found = try_to_load_from_cache(repository, "tokenizer.json")
            if isinstance(found, str):
                return GlideTokenizer.from_file(found)
    return GlideTokenizer.from_files(*(find_weights("glide", name) for name in VOCABULARY))


def _pipeline(found: Mapping[str, Path]) -> str:
    """The class that loads these checkpoints together.

    Raises ValueError if none does, which says what to add and what to leave out for the nearest set.
    """
    misfits = [
        (
            pipeline,
            [kind for kind in found if kind not in (*needed, *optional)],
            [kind for kind in needed if kind not in found],
        )
        for pipeline, needed, optional in SETS
    ]
    pipeline, foreign, missing = min(misfits, key=lambda one: (len(one[1]), len(one[2])))
    if not foreign and not missing:
        return pipeline
    given = " and ".join(f"{path} ({kind})" for kind, path in found.items()) or "no files"
    advice = [f"add {kind} ({PUBLISHED[kind]})" for kind in missing]
    advice += [f"leave out {found[kind]}" for kind in foreign]
    raise ValueError(f"{given} make no model; {' and '.join(advice)}")


def _parts(found: Mapping[str, Path], tokenizer: GlideTokenizer) -> Iterator[tuple[str, Any]]:
    """The parts of a model folder, each made when it is asked for, in the format of its file."""
    yield "tokenizer", tokenizer
    for kind, path in found.items():
        if kind in (BASE, INPAINT_BASE):
            yield "unet", _network(path, tokenizer)
        elif kind in (UPSAMPLER, INPAINT_UPSAMPLER):
            yield "upsampler", _network(path, tokenizer)
    if CLIP_IMAGE in found:
        from ..clip import ClipTokenizer
        from ..diffusion import NoisedClip

        halves = {
            "image_encoder": read_weights(found[CLIP_IMAGE]),
            "text_encoder": read_weights(found[CLIP_TEXT]),
        }
        weights = {f"{half}.{name}": value for half, each in halves.items() for name, value in each.items()}
        yield "clip_tokenizer", ClipTokenizer.openai()
        yield "noised_clip", NoisedClip.from_original(weights, dtype=_own_format(weights))


def _network(path: Path, tokenizer: GlideTokenizer, dtype: torch.dtype | None = None) -> GlideUNet:
    """The network of a checkpoint in `dtype`, or in its file's own. Raises ValueError if the vocabulary is not its."""
    from ..diffusion import GlideUNet

    weights = read_weights(path)
    entries = len(weights["token_embedding.weight"])
    if entries != tokenizer.vocab_size:
        raise ValueError(
            f"{path} reads a vocabulary of {entries} entries, and the one given has {tokenizer.vocab_size}; "
            "give the one that it was trained with"
        )
    return GlideUNet.from_original(weights, dtype=dtype or _own_format(weights))


def _own_format(weights: Mapping[str, torch.Tensor]) -> torch.dtype:
    """The narrowest that holds all of them as they are."""
    import torch

    return reduce(torch.promote_types, {value.dtype for value in weights.values()})
