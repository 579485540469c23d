"""One file of a repository on the Hub, or one sentence why not."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from ..weights.cache import offline

INSTEAD = "give the path of the weights, with the open_clip_config.json beside them (else they are taken for OpenAI's)"


def hub_file(
    repository: str, names: Sequence[str], revision: str | None = None, progress: bool = True
) -> Path:
    """The first of `names` that the repository has, from the Hub's own cache or downloaded into it.

    Raises FileNotFoundError if there is no such repository, revision or file, or it is not in the cache and downloads
    are forbidden, PermissionError if it is not for everyone, ConnectionError if the Hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub import errors, utils

    quiet = not progress and not utils.are_progress_bars_disabled()
    if quiet:
        utils.disable_progress_bars()
    forbidden = offline()
    where = f"{repository}@{revision}" if revision else repository
    try:
        for name in names:
            try:
                return Path(
                    huggingface_hub.hf_hub_download(
                        repository, name, revision=revision, local_files_only=forbidden
                    )
                )
            except errors.LocalEntryNotFoundError:
                if name == names[-1]:
                    raise
            except errors.EntryNotFoundError:
                continue
    except errors.HFValidationError:
        raise ValueError(f"{where!r} names no repository of the Hub; expected org/name") from None
    except errors.GatedRepoError:
        raise PermissionError(
            f"{where} is only for those who accepted its terms; do so at its page on the Hub, then run: hf auth login"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise FileNotFoundError(
            f"the Hub has no public repository {where}; check its name, or run: hf auth login, if it is private"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if forbidden or os.environ.get("HF_HUB_OFFLINE"):
            raise FileNotFoundError(
                f"{names[0]} of {where} is not in the Hub's cache and downloads are forbidden; unset MAQUETTE_OFFLINE "
                f"and HF_HUB_OFFLINE, or {INSTEAD}"
            ) from None
        raise _unreachable(where, error) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise OSError(f"{where} cannot be written to the Hub's cache ({error.strerror})") from None
        raise _unreachable(where, error) from None
    except Exception as error:
        # The library that does its transfers has errors of its own.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpcore", "requests", "urllib3"):
            raise
        raise _unreachable(where, error) from None
    finally:
        if quiet:
            utils.enable_progress_bars()
    raise FileNotFoundError(
        f"{where} on the Hub holds none of {', '.join(names)}; it is no model of open_clip's"
    )


def _unreachable(where: str, error: Exception) -> ConnectionError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120].rstrip(".")
    return ConnectionError(
        f"{where} cannot be fetched from the Hub ({reason}); check the network or the proxy and try again, or download "
        f"its files by other means and {INSTEAD}"
    )
