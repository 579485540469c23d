"""Where downloaded weights are kept, and whether anything may be downloaded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import platformdirs


def cache_folder() -> Path:
    """The folder named by MAQUETTE_CACHE, or the platform's usual one; it need not exist yet."""
    chosen = os.environ.get("MAQUETTE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("maquette", False))


def cached_path(url: str, sha256: str | None = None) -> Path:
    """Where the file of an address is kept once it has been downloaded whole.

    Its name carries the start of the hash (of the content, or else of the address), so that no two files share a place.
    """
    name = Path(file_name(url))
    key = sha256 or hashlib.sha256(url.encode()).hexdigest()
    return cache_folder() / f"{name.stem}-{key[:8]}{name.suffix}"


def file_name(url: str) -> str:
    """The last part of an address, as a file may be called."""
    name = Path(unquote(urlsplit(url).path).replace("\\", "/")).name
    return "".join(c if c.isalnum() or c in "._=-" else "_" for c in name)[-100:].lstrip(".") or "file"


def offline() -> bool:
    """Whether MAQUETTE_OFFLINE forbids downloads."""
    return os.environ.get("MAQUETTE_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")
