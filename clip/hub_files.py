"""One file of a repository on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..weights.download import offline


def hub_file(repository: str, names: Sequence[str], revision: str | None = None) -> Path:
    """The first of `names` that the repository has, from the Hub's own cache or downloaded into it.

    Raises what huggingface_hub raises; MAQUETTE_OFFLINE forbids downloads here as well.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for name in names[:-1]:
        try:
            return Path(hf_hub_download(repository, name, revision=revision, local_files_only=offline()))
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(repository, names[-1], revision=revision, local_files_only=offline()))
