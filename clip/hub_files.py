"""One file of a repository on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..weights.download import offline


def hub_file(
    repository: str, names: Sequence[str], revision: str | None = None, progress: bool = True
) -> Path:
    """The first of `names` that the repository has, from the Hub's own cache or downloaded into it.

    Raises what huggingface_hub raises; MAQUETTE_OFFLINE forbids downloads here as well.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from tqdm import tqdm

    bar: Any = None if progress else partial(tqdm, disable=True)
    download = partial(
        hf_hub_download, repository, revision=revision, local_files_only=offline(), tqdm_class=bar
    )
    for name in names[:-1]:
        with suppress(EntryNotFoundError):
            return Path(download(name))
    return Path(download(names[-1]))
