"""One file over HTTP, whole and right or not at all: cuts are resumed, stalls and overload are waited out."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
OVERLOADED = (408, 425, 429)
# What a path loses against a name.
INSTEAD = (
    "give the file's path instead of the name (a CLIP file given by its path is read as one of OpenAI's, unless "
    "open_clip's open_clip_config.json lies beside it)"
)


@dataclass(frozen=True)
class Patience:
    """How long to bear with a server."""

    timeout: float = 30.0
    """Seconds without a byte after which a connection counts as stalled."""
    retries: int = 6
    """Failures in a row, none of which brought a new byte, before giving up."""
    connects: int = 2
    """As `retries`, while the server has not answered at all: there may be no network."""
    pause: float = 1.0
    """Seconds before the first retry; each further one waits twice as long, up to 30 seconds."""


class _Failed(Exception):
    """This attempt failed; another one may not."""


class _Changed(Exception):
    """What was resumed is not what the server has now, so start over."""


class Transfer:
    """The download of `url` into the file `partial`, which is taken up where it ends.

    sha256: the content's hash in hexadecimal, or its start, or None. Whoever knows the hash can resume what another
    process began; otherwise only the server's word that nothing changed allows it.
    report(bytes so far, bytes in all or None, what is being waited for) is called as it goes on.
    """

    def __init__(
        self,
        url: str,
        partial: Path,
        sha256: str | None,
        patience: Patience,
        report: Callable[[int, int | None, str], Any],
    ):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url} is no address that starts with https:// or http://")
        self.url, self.partial, self.sha256 = url, partial, sha256
        self.patience, self.report = patience, report
        self.have, self.total, self.hash = 0, None, hashlib.sha256()
        # Made anew, it knows the proxies of this moment.
        self.opener = urllib.request.build_opener()
        self.answered = False
        self.best, self.changes = 0, 0
        self.patched = False
        self.validator: str | None = None
        self.worth_keeping = sha256 is not None

    def run(self) -> None:
        """Bring `partial` to its end and check it. Raises OSError or ValueError in one sentence.

        What lies in `partial` afterwards is right, or worth resuming, or gone.
        """
        try:
            try:
                self.file = self.partial.open("a+b", buffering=0)
            except OSError as error:
                raise self._cannot_write(error) from None
            with self.file:
                self._take_up()
                self._persist()
                if self.patched and not self._is_right():
                    # The parts may be of different files; what comes in one go cannot be.
                    self._start_over()
                    self._persist()
                if not self._is_right():
                    self.worth_keeping = False
                    raise ValueError(
                        f"what {self.url} gave is not the published file (its SHA-256 starts with "
                        f"{self.hash.hexdigest()[:8]}, expected {str(self.sha256)[:8]}) and was deleted; try again, "
                        "and if it stays so, try another network or get the file elsewhere"
                    )
        except BaseException:
            if not (self.worth_keeping and self.have):
                self.partial.unlink(missing_ok=True)
            raise

    def _persist(self) -> None:
        """Attempt after attempt until all bytes are there."""
        self.best, failures = self.have, 0
        while True:
            try:
                return self._receive()
            except _Changed:
                self._start_anew()
                reason = "the file changed on the server"
            except _Failed as failure:
                reason = str(failure)
                if self.sha256 is None and self.validator is None:
                    self._start_over()
            if self.have > self.best:
                self.best, failures = self.have, 0
            failures += 1
            most = self.patience.retries if self.answered else self.patience.connects
            if failures > most or self.changes > self.patience.retries:
                raise ConnectionError(
                    f"{self.url} cannot be downloaded ({reason}); check the network or the proxy and try again, or "
                    f"download this address by other means and {INSTEAD}"
                )
            wait = min(self.patience.pause * 2 ** (failures - 1), 30.0)
            self.report(self.have, self.total, f"{reason}, trying again")
            time.sleep(wait)

    def _receive(self) -> None:
        """One request for what is missing."""
        headers = {"User-Agent": "maquette", "Accept-Encoding": "identity"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            if self.validator:
                headers["If-Range"] = self.validator
        try:
            request = urllib.request.Request(self.url, headers=headers)
            response = self.opener.open(request, timeout=self.patience.timeout)
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error)
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from None
        with response:
            self.answered = True
            self._begin(response)
            while chunk := self._next(response):
                self._write(chunk)
                self.report(self.have, self.total, "")
        if self.total is not None and self.have < self.total:
            raise _Failed("the connection was cut")

    def _begin(self, response: http.client.HTTPResponse) -> None:
        """Read off the headers what the body is, and put the end of `partial` where it begins."""
        etag, length = response.headers.get("ETag", ""), response.headers.get("Content-Length", "")
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")
        if response.status == 206:
            unit, _, where = response.headers.get("Content-Range", "").partition(" ")
            span, _, total = where.partition("/")
            total = int(total) if total.isdigit() else self.total
            if unit != "bytes" or span.partition("-")[0] != str(self.have) or total != (self.total or total):
                raise _Changed
            self.patched = True
        else:
            if self.validator and validator != self.validator:
                self._start_anew()
            elif self.have:
                self._start_over()
            total = int(length) if length.isdigit() else None
        self.total = total
        self.validator = validator
        free = _free_bytes(self.partial.parent)
        if total is not None and free is not None and total - self.have > free:
            raise OSError(
                f"{self.partial.parent} has {free / 1e6:,.0f} MB free, but {(total - self.have) / 1e6:,.0f} MB are "
                "still to come; make room there or set MAQUETTE_CACHE to another folder"
            )

    def _refused(self, error: urllib.error.HTTPError) -> None:
        """An answer that is no success: raise what it means, or return if everything is there already."""
        self.answered = True
        if error.code == 416 and self.have:
            total = error.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(self.have):
                return
            raise _Changed
        if error.code >= 500 or error.code in OVERLOADED:
            raise _Failed(f"the server answered {error.code} {error.reason}")
        raise FileNotFoundError(
            f"{self.url} cannot be downloaded: the server answered {error.code} {error.reason}; "
            f"get this file by other means and {INSTEAD}"
        )

    def _next(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> Exception:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ConnectionError(
                f"{self.url} cannot be downloaded: the server's certificate is not trusted ({reason.verify_message}); "
                "set SSL_CERT_FILE if your network has its own authority"
            )
        if isinstance(reason, TimeoutError):
            return _Failed(f"nothing came for {self.patience.timeout:g} seconds")
        if isinstance(error, http.client.HTTPException):
            return _Failed("the connection was cut")
        return _Failed(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)

    def _take_up(self) -> None:
        """Go on where an earlier run stopped, if the hash will tell whether that was right."""
        if self.sha256 is None:
            return self._start_over()
        self.file.seek(0)
        while chunk := self.file.read(CHUNK):
            self.hash.update(chunk)
            self.have += len(chunk)
        self.patched = self.have > 0

    def _start_anew(self) -> None:
        """Start over with another file, whose progress is not measured by that of the last one."""
        self.best, self.changes = 0, self.changes + 1
        self._start_over()

    def _start_over(self) -> None:
        self.have, self.total, self.hash = 0, None, hashlib.sha256()
        self.validator, self.patched = None, False
        self.file.truncate(0)

    def _write(self, chunk: bytes) -> None:
        left = memoryview(chunk)
        while left:
            try:
                written = self.file.write(left)
            except OSError as error:
                raise self._cannot_write(error) from None
            self.hash.update(left[:written])
            self.have += written
            left = left[written:]

    def _cannot_write(self, error: OSError) -> OSError:
        return OSError(
            f"the download cannot be written to {self.partial.parent} ({error.strerror}); make room there or set "
            "MAQUETTE_CACHE to another folder"
        )

    def _is_right(self) -> bool:
        return self.sha256 is None or self.hash.hexdigest().startswith(self.sha256.lower())


def _free_bytes(folder: Path) -> int | None:
    """What the disk has left for this user, where the system says so."""
    if not hasattr(os, "statvfs"):
        return None
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
