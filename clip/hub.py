"""CLIPs that lie on the Hub, as "hf-hub:org/name", in open_clip's files or in those of transformers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..weights.download import offline
from . import open_clip_config

HUB = "hf-hub:"
PREPARED = ("processor_config.json", "preprocessor_config.json")  # how transformers prepares pixels
# What tells of a model of transformers beside its weights; older ones have no tokenizer.json, newer ones that alone.
TOLD = (*PREPARED, "vocab.json", "merges.txt", "tokenizer.json")


def hub_folder(name: str, *, progress: bool = True) -> Path:
    """The folder in the Hub's cache of "hf-hub:org/name" or "hf-hub:org/name@revision", with all that a CLIP needs.

    Of a repository that has both, these are open_clip's files. Raises ValueError for what is no such name, and for
    another kind of model before its weights are fetched, and what huggingface_hub raises if a file cannot be fetched.
    """
    from . import transformers_names  # which imports the network

    repository, _, revision = name.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{name!r} names no repository of the Hub; expected {HUB}org/name")
    where: dict[str, Any] = {"repository": repository, "revision": revision or None, "progress": progress}
    config = _hub_file_if_any(open_clip_config.CONFIG, needed=False, **where)
    layout: Any = open_clip_config if config else transformers_names
    config = config or hub_file(names=(layout.CONFIG,), **where)
    layout.read_config(name, config)
    if layout is transformers_names:
        found = {told: _hub_file_if_any(told, needed=False, **where) for told in TOLD}
        if not any(found[prepared] for prepared in PREPARED):
            _hub_file_if_any(PREPARED[-1], **where)  # without it pixels would be prepared in another way
    hub_file(names=layout.WEIGHTS, **where)
    return config.parent


def _hub_file_if_any(
    name: str, repository: str, revision: str | None, progress: bool, needed: bool = True
) -> Path | None:
    """A file of the repository; None if it has none of this name, so not for want of a connection.

    needed: whether the cache must know that it has none where MAQUETTE_OFFLINE forbids to ask.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return hub_file(repository, (name,), revision, progress)
    except LocalEntryNotFoundError:
        # The cache remembers what the repository was asked for and did not have.
        known = try_to_load_from_cache(repository, name, revision=revision) is not None
        if not known and (needed or not offline()):
            raise
    except EntryNotFoundError:
        pass
    return None


def hub_file(repository: str, names: Sequence[str], revision: str | None, progress: bool) -> Path:
    """The first of `names` that the repository has, from the Hub's own cache or downloaded into it.

    Raises what huggingface_hub raises; MAQUETTE_OFFLINE forbids downloads here as well.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from tqdm import tqdm

    bar: Any = None if progress else partial(tqdm, disable=True)
    download = partial(
        hf_hub_download, repository, revision=revision, local_files_only=offline(), tqdm_class=bar
    )
    for name in names[:-1]:
        try:
            return Path(download(name))
        except EntryNotFoundError as error:
            # Which also says that a connection failed.
            if isinstance(error, LocalEntryNotFoundError) and not offline():
                raise
    return Path(download(names[-1]))
