"""A real HTTP server on loopback that serves files as badly as a test asks it to."""

import contextlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Loopback(ThreadingHTTPServer):
    """Answers each request with the next of `faults`, and properly when there are none left.

    A fault is a function of the handler that answers in its own way, such as `cut(1000)`. It serves one file, or those
    in `files` by their names.
    requests: the headers of each request; sent: bytes of content put on the wire.
    """

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.ranges = content, '"one"', True
        self.files: dict[str, bytes] = {}
        self.faults: list[Callable[[Handler], None]] = []
        self.requests: list = []
        self.sent = 0
        self.asked, self.release = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/files/tiny.pt"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.release.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """A client that hangs up is no error here."""


class Handler(BaseHTTPRequestHandler):
    server: Loopback

    def do_GET(self):
        self.server.requests.append(self.headers)
        fault = self.server.faults.pop(0) if self.server.faults else answer
        fault(self)
        self.server.asked.set()

    def head(self, status=None, length=None) -> bytes:
        """Send the headers; returns the content that is to follow."""
        content, start = self.server.files.get(self.path.rpartition("/")[2], self.server.content), 0
        asked = self.headers.get("Range") if self.server.ranges else None
        if asked and self.headers.get("If-Range", self.server.etag) == self.server.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return b""
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(status or 200)
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(content) - start if length is None else length))
        self.end_headers()
        return content[start:]

    def body(self, content: bytes) -> None:
        self.server.sent += len(content)
        with contextlib.suppress(OSError):
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def answer(handler: Handler) -> None:
    handler.body(handler.head())


def cut(after: int):
    """Hang up after so many bytes of what was announced."""
    return lambda handler: handler.body(handler.head()[:after])


def hold(after: int):
    """Stop after so many bytes, but keep the connection open until `release` is set; then hang up."""

    def fault(handler):
        handler.body(handler.head()[:after])
        handler.server.asked.set()
        handler.server.release.wait(30)

    return fault


def truncate(to: int):
    """Serve the start of the file as if it were all."""

    def fault(handler):
        handler.body(handler.head(length=to)[:to])

    return fault


def corrupt(handler: Handler) -> None:
    content = bytearray(handler.head())
    content[len(content) // 2] ^= 1
    handler.body(bytes(content))


def status(code: int):
    def fault(handler):
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault
