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
WORDS = ("vocab.json", "tokenizer.json")  # older models have no tokenizer.json, newer ones that alone
TOLD = (*PREPARED, "merges.txt", *WORDS)  # what tells of a model of transformers beside its weights


def hub_folder(name: str) -> Path:
    """The folder in the Hub's cache of "hf-hub:org/name" or "hf-hub:org/name@revision", with all that a CLIP needs.

    Of a repository that has both, these are open_clip's files. Raises ValueError for what is no such name, and for
    another kind of model before its weights are fetched, and what huggingface_hub raises if a file cannot be fetched.
    """
    from . import transformers_names  # which imports the network

    repository, _, revision = name.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{name!r} names no repository of the Hub; expected {HUB}org/name")
    where: dict[str, Any] = {"repository": repository, "revision": revision or None}
    config = _hub_file_if_any(open_clip_config.CONFIG, needed=False, **where)
    layout: Any = open_clip_config if config else transformers_names
    config = config or hub_file(names=(layout.CONFIG,), **where)
    layout.read_config(name, config)
    if layout is transformers_names:
        found = {told: _hub_file_if_any(told, needed=False, **where) for told in TOLD}
        # Without these pixels would be prepared, or words read, in another way.
        for wanted in (PREPARED, WORDS):
            if not any(found[each] for each in wanted):
                _hub_file_if_any(wanted[-1], **where)
    hub_file(names=layout.WEIGHTS, **where)
    return config.parent


def _hub_file_if_any(name: str, repository: str, revision: str | None, needed: bool = True) -> Path | None:
    """A file of the repository; None if it has none of this name, so not for want of a connection.

    needed: whether, where MAQUETTE_OFFLINE or HF_HUB_OFFLINE forbid to ask, the cache must know that it has none; else
    a file that is not in the cache counts as absent.
    """
    from huggingface_hub import is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return hub_file(repository, (name,), revision)
    except LocalEntryNotFoundError:
        # The cache remembers what the repository was asked for and did not have.
        known = try_to_load_from_cache(repository, name, revision=revision) is not None
        if not known and (needed or not (offline() or is_offline_mode())):
            raise
    except EntryNotFoundError:
        pass
    return None


def hub_file(repository: str, names: Sequence[str], revision: str | None = None) -> Path:
    """The first of `names` that the repository has, from the Hub's own cache or downloaded into it.

    Raises what huggingface_hub raises; MAQUETTE_OFFLINE forbids downloads here as well.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    download = partial(hf_hub_download, repository, revision=revision, local_files_only=offline())
    for name in names[:-1]:
        try:
            return Path(download(name))
        except LocalEntryNotFoundError:  # there is no connection: any of them serves that is in the cache
            cached = [try_to_load_from_cache(repository, each, revision=revision) for each in names]
            if found := [path for path in cached if isinstance(path, str)]:
                return Path(found[0])
            raise
        except EntryNotFoundError:
            pass
    return Path(download(names[-1]))
