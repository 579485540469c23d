"""Published weights by name or address: downloaded once, checked, and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path

import platformdirs
from filelock import FileLock

from .checksums import sha256_of
from .table import model_file
from .write_whole import write_whole

# Seconds without a byte that end a connection, connections in a row without a new byte, seconds between them.
TIMEOUT, TRIES, PAUSE = 30.0, 3, 2.0


def cache_folder() -> Path:
    """The folder named by MAQUETTE_CACHE, or the platform's usual one; it need not exist yet.

    Raises ValueError if that begins with the home folder of someone who has none.
    """
    chosen = os.path.expanduser(os.environ.get("MAQUETTE_CACHE", ""))
    if chosen.startswith("~"):
        raise ValueError(f"MAQUETTE_CACHE is {chosen}, and there is no such home folder; give a whole path")
    return Path(chosen or platformdirs.user_cache_dir("maquette", False))


def cached_path(url: str, sha256: str | None = None) -> Path:
    """Where the file of an address is kept. Its name carries the start of a hash: of its content, or of the address."""
    name, key = Path(_file_name(url)), sha256 or hashlib.sha256(url.encode()).hexdigest()
    return cache_folder() / f"{name.stem}-{key[:8]}{name.suffix}"


def offline() -> bool:
    """Whether MAQUETTE_OFFLINE forbids downloads."""
    return os.environ.get("MAQUETTE_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def find_weights(name: str, part: str | None = None, *, folder: str | os.PathLike | None = None) -> Path:
    """A file of a published model, such as "ViT-B/32", as from `find_file`; ValueError for an unknown name or part."""
    file = model_file(name, part)
    return find_file(file["url"], file["sha256"], folder=folder)


def find_file(url: str, sha256: str | None = None, *, folder: str | os.PathLike | None = None) -> Path:
    """The file behind an address, downloaded on first use; several processes that ask at once download it once.

    sha256: its hash in hexadecimal, or the start of it. folder: where to keep it under its published name, instead of
    in the cache. Shows a bar if standard error is a terminal. Raises FileNotFoundError if downloads are
    forbidden, ValueError for wrong content, httpx.HTTPError from the network, OSError from the disk.
    """
    target = cached_path(url, sha256) if folder is None else Path(folder) / _file_name(url)
    if target.is_file():
        # In a folder of the user's a file of this name may be any file.
        if folder is not None and (problem := _wrong(target, sha256)):
            raise ValueError(f"{target} is not the published file ({problem}); delete it or go elsewhere")
        return target
    if offline():
        raise FileNotFoundError(
            f"{target} is missing and MAQUETTE_OFFLINE forbids downloading it; unset that"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if not target.is_file():
            partial = target.with_name(f"{target.name}.partial")
            _download(url, partial, sha256)
            if problem := _wrong(partial, sha256):
                partial.unlink()
                raise ValueError(f"{url} is not the published file ({problem}); it was deleted, try again")
            with write_whole(target) as beside:
                partial.replace(beside)
            _mark(partial).unlink(missing_ok=True)
    return target


def _download(url: str, partial: Path, sha256: str | None) -> None:
    """Bring `partial` to its end, over new connections as long as these bring something new.

    Without a hash the server's own mark of the content tells whether the rest is of the same file.
    """
    import httpx
    from tqdm import tqdm

    mark = _mark(partial)
    tries = most = 0
    style: dict = {"unit": "B", "unit_scale": True, "disable": None}
    while True:
        have = partial.stat().st_size if partial.exists() else 0
        tries, most = (1, have) if have > most else (tries + 1, most)
        same = mark.read_text() if sha256 is None and mark.exists() else ""
        headers = {"Accept-Encoding": "identity"}
        if have and (sha256 or same):
            headers |= {"Range": f"bytes={have}-", **({"If-Range": same} if same else {})}
        try:
            with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as answer:
                if answer.status_code == 416 and have:  # nothing comes after what is there
                    return
                answer.raise_for_status()
                have = have if answer.status_code == 206 else 0
                total = have + int(answer.headers.get("Content-Length", 0))
                bar = tqdm(desc=partial.stem, total=total, initial=have, **style)
                with bar, partial.open("ab" if have else "wb") as file:
                    if sha256 is None and not have:
                        mark.write_text(answer.headers.get("ETag", ""))
                    for chunk in answer.iter_bytes():
                        file.write(chunk)
                        bar.update(len(chunk))
            return
        except (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError) as error:
            if tries == TRIES:
                error.add_note(f"while fetching {url}: try again; what came so far is kept")
                raise
            time.sleep(PAUSE)


def _mark(partial: Path) -> Path:
    """Where the server's mark, its ETag, of what was begun is kept."""
    return partial.with_name(f".{partial.name}.etag")


def _wrong(path: Path, sha256: str | None) -> str:
    """What is wrong with the content of a file, if anything."""
    if sha256 is None:
        return ""
    found = sha256_of(path)
    return "" if found.startswith(sha256.lower()) else f"its SHA-256 is {found}, expected {sha256}"


def _file_name(url: str) -> str:
    """The last part of an address, as a file may be called."""
    return re.sub(r"[^\w.=-]", "_", re.split("[?#]", url)[0].rpartition("/")[2])[-100:].lstrip(".") or "file"
