"""Published weights by name or address: downloaded once, checked, and kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from .cache import cache_folder, cached_path, file_name, offline
from .table import model_entry
from .transfer import CHUNK, INSTEAD, Patience, Transfer


def find_weights(
    name: str,
    part: str | None = None,
    *,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
) -> Path:
    """The file of a published model, such as "ViT-B/32", downloaded on first use.

    part: which of its files, if there are several. folder: where to keep it under its published name, instead of in
    the cache. progress: show a bar if standard error is a terminal.
    Raises ValueError for an unknown name, a part it lacks, or wrong content; an OSError in one sentence if the file
    cannot be downloaded or written.
    """
    files = model_entry(name).get("files")
    if not files:
        raise ValueError(f"{name} ships with the package; there is nothing to download")
    if part is None and len(files) == 1:
        part = next(iter(files))
    if part not in files:
        raise ValueError(f"{name} has several files; say which: {', '.join(files)}")
    return find_file(
        files[part]["url"], files[part]["sha256"], folder=folder, progress=progress, patience=patience
    )


def find_file(
    url: str,
    sha256: str | None = None,
    *,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
    patience: Patience = Patience(),  # noqa: B008
) -> Path:
    """The file behind an address, downloaded on first use; several processes that ask at once download it once.

    sha256: its hash in hexadecimal, or the start of it. The other arguments and errors are those of `find_weights`.
    """
    target = cached_path(url, sha256) if folder is None else Path(folder) / file_name(url)
    if _have(target, sha256, check=folder is not None):
        return target
    if offline():
        raise FileNotFoundError(
            f"{file_name(url)} is not in {target.parent} and MAQUETTE_OFFLINE forbids downloading it; unset that, or "
            f"download {url} by other means and {INSTEAD}"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the folder {target.parent} for downloads cannot be made ({error.strerror}); set MAQUETTE_CACHE to "
            "one that you can write to"
        ) from None
    with _alone(target, progress):
        if not target.is_file():
            _download(url, target, sha256, progress, patience)
    return target


def _have(target: Path, sha256: str | None, check: bool) -> bool:
    """Whether the file is there. In a folder of the user's a file of this name may be anything, so it is read."""
    if not target.is_file():
        return False
    if check and sha256 is not None:
        found = hashlib.sha256()
        with target.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
        if not found.hexdigest().startswith(sha256.lower()):
            raise ValueError(
                f"{target} is not the published file of that name (SHA-256 {found.hexdigest()[:12]}…, expected "
                f"{sha256[:12]}…); delete it or choose another folder"
            )
    return True


@contextlib.contextmanager
def _alone(target: Path, progress: bool) -> Iterator[None]:
    """While this holds, no other process downloads to `target`."""
    path = target.with_name(f".{target.name}.lock")
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                print(f"another process is downloading {target.name}; waiting for it …", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise OSError(
            f"the folder {target.parent} cannot be written to ({error.strerror}); set MAQUETTE_CACHE to another one"
        ) from None
    try:
        yield
    finally:
        # Once the file is there nobody needs the lock any more: whoever still waits for it looks for the file first.
        if target.is_file():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        lock.release()


def _download(url: str, target: Path, sha256: str | None, progress: bool, patience: Patience) -> None:
    partial = target.with_name(f"{target.name}.partial")
    with tqdm(
        desc=target.name, unit="B", unit_scale=True, dynamic_ncols=True, disable=None if progress else True
    ) as bar:

        def report(have: int, total: int | None, waiting: str) -> None:
            bar.total = total
            bar.set_postfix_str(waiting, refresh=bool(waiting))
            bar.update(have - bar.n)

        Transfer(url, partial, sha256, patience, report).run()
    partial.replace(target)


__all__ = ["Patience", "cache_folder", "find_file", "find_weights"]
