"""Downloads against a real server on loopback that misbehaves."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from loopback import Loopback, corrupt, cut, hold, status, truncate
from maquette.weights import find_file, find_weights, known_models
from maquette.weights.table import _table
from maquette.weights.transfer import Patience

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(timeout=0.3, retries=3, connects=1, pause=0.01)
FETCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts without it
from maquette.weights import find_file
from maquette.weights.transfer import Patience
url, sha256, fsize = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
if fsize:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (fsize, fsize))
try:
    print(find_file(url, sha256, patience=Patience(timeout=20, pause=0.01)))
except OSError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("MAQUETTE_OFFLINE", raising=False)
    with Loopback(CONTENT) as server:
        yield server


def fetch(server, sha256=SHA256, **options):
    return find_file(server.url, sha256, progress=False, patience=QUICK, **options)


def process(server, sha256=SHA256, fsize=0):
    command = [sys.executable, "-c", FETCH, server.url, sha256, str(fsize)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kept(tmp_path):
    """What is in the cache, but for locks."""
    return [path for path in (tmp_path / "cache").glob("*") if not path.name.startswith(".")]


def test_a_file_is_downloaded_once_and_kept(server, tmp_path):
    path = fetch(server)
    assert path.read_bytes() == CONTENT and kept(tmp_path) == [path]
    assert fetch(server) == path and len(server.requests) == 1
    assert path.name == f"tiny-{SHA256[:8]}.pt"


def test_two_processes_download_one_file_once_through_two_cuts(server, tmp_path):
    server.faults = [hold(100_000), cut(50_000)]
    first = process(server)
    assert server.asked.wait(20)
    second = process(server)
    assert "another process is downloading" in second.stderr.readline()
    server.release.set()
    paths = {one.communicate(timeout=30)[0].strip() for one in (first, second)}
    assert (first.returncode, second.returncode) == (0, 0)
    assert paths == {str(path) for path in kept(tmp_path)} and len(paths) == 1
    assert hashlib.sha256(kept(tmp_path)[0].read_bytes()).hexdigest() == SHA256
    assert [one.get("Range") for one in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize(
    "faults",
    [
        [cut(0), cut(1), cut(70_000)],
        [hold(1000)],
        [status(503), status(500), status(429), cut(10), status(503), status(503)],
        [truncate(0), cut(10)],
    ],
    ids=["cuts", "a stall", "overload", "empty"],
)
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etag", ['"one"', ""])
def test_what_passes_is_waited_out(server, tmp_path, faults, ranges, etag):
    server.faults, server.ranges, server.etag = list(faults), ranges, etag
    if len(faults) == 2:
        # An answer of no bytes is whole as far as HTTP can tell; only the hash says that it is not the file.
        with pytest.raises(ValueError, match="not the published file"):
            fetch(server)
    assert fetch(server).read_bytes() == CONTENT
    assert not server.faults


@pytest.mark.parametrize("etag", ['"one"', ""])
def test_without_a_hash_only_an_unchanged_file_is_resumed(server, etag):
    server.etag, server.faults = etag, [cut(1000)]
    assert fetch(server, None).read_bytes() == CONTENT
    assert server.requests[1].get("Range") == ("bytes=1000-" if etag else None)


def test_a_file_that_changes_on_the_way_is_fetched_anew(server):
    def changing(handler):
        cut(1000)(handler)
        server.content, server.etag = CONTENT[::-1], '"two"'

    server.faults = [changing]
    assert fetch(server, None).read_bytes() == CONTENT[::-1]


def test_progress_with_a_changed_file_is_progress(server):
    def changing(handler):
        cut(100_000)(handler)
        server.content, server.etag = CONTENT[::-1], '"two"'

    server.faults = [changing, *[cut(1000)] * 6]
    assert fetch(server, None).read_bytes() == CONTENT[::-1]


def test_a_file_that_never_stops_changing_is_given_up(server):
    def changing(handler):
        cut(1000 + len(server.requests))(handler)
        server.etag = f'"{len(server.requests)}"'

    server.faults = [changing] * 30
    with pytest.raises(ConnectionError, match="cannot be downloaded"):
        fetch(server, None)


@pytest.mark.parametrize("old", [b"of another file", CONTENT, CONTENT + b"more", CONTENT[:1000], b""])
def test_what_an_earlier_run_left_is_used_if_it_is_right(server, tmp_path, old):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"tiny-{SHA256[:8]}.pt.partial").write_bytes(old)
    path = fetch(server)
    assert path.read_bytes() == CONTENT and kept(tmp_path) == [path]
    if CONTENT.startswith(old):
        assert server.sent == len(CONTENT) - len(old)


@pytest.mark.parametrize("fault", [corrupt, truncate(1000)])
def test_wrong_content_is_deleted(server, tmp_path, fault):
    server.faults = [fault]
    with pytest.raises(ValueError, match=r"is not the published file .* and was deleted"):
        fetch(server)
    assert kept(tmp_path) == []


@pytest.mark.parametrize(("code", "said"), [(404, "404 Not Found"), (403, "403 Forbidden")])
def test_a_missing_file_fails_at_once(server, tmp_path, code, said):
    server.faults = [status(code)]
    with pytest.raises(FileNotFoundError, match=f"{said}; get this file by other means"):
        fetch(server)
    assert len(server.requests) == 1 and kept(tmp_path) == []


def test_a_server_that_stays_bad_is_given_up_with_what_came(server, tmp_path):
    server.faults = [cut(1000), *[cut(0)] * 9]
    with pytest.raises(ConnectionError, match=r"the connection was cut.*give the file's path"):
        fetch(server)
    assert len(server.requests) == 4 and [path.stat().st_size for path in kept(tmp_path)] == [1000]
    server.faults = []
    assert fetch(server).read_bytes() == CONTENT and server.requests[-1]["Range"] == "bytes=1000-"


def test_no_network(server, tmp_path):
    server.shutdown()
    server.socket.close()
    with pytest.raises(ConnectionError, match=r"cannot be downloaded .*check the network or the proxy"):
        fetch(server)
    assert kept(tmp_path) == []


def test_a_proxy_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    path = find_file("http://weights.example/tiny.pt", SHA256, progress=False, patience=QUICK)
    assert path.read_bytes() == CONTENT and server.requests[0]["Host"] == "weights.example"


def test_offline(server, monkeypatch):
    monkeypatch.setenv("MAQUETTE_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="MAQUETTE_OFFLINE forbids downloading it"):
        fetch(server)
    assert server.requests == []
    monkeypatch.delenv("MAQUETTE_OFFLINE")
    path = fetch(server)
    monkeypatch.setenv("MAQUETTE_OFFLINE", "1")
    assert fetch(server) == path


def test_ctrl_c_keeps_what_can_be_resumed(server, tmp_path):
    for sha256, left in (("", []), (SHA256, [1000])):
        server.asked.clear()
        server.faults = [hold(1000)]
        running = process(server, sha256)
        assert server.asked.wait(30)
        while [path.stat().st_size for path in kept(tmp_path)] != [1000]:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in running.communicate(timeout=30)[1]
        assert [path.stat().st_size for path in kept(tmp_path)] == left
    assert fetch(server).read_bytes() == CONTENT and server.requests[-1]["Range"] == "bytes=1000-"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the shell")
def test_a_full_disk(server, tmp_path):
    running = process(server, fsize=100_000)
    error = running.communicate(timeout=20)[1]
    assert running.returncode == 1 and error.count("\n") == 1
    assert "cannot be written to" in error and "set MAQUETTE_CACHE to another folder" in error
    assert [path.stat().st_size for path in kept(tmp_path)] == [100_000]
    server.faults = [lambda handler: handler.head(status=200, length=10**18)]
    with pytest.raises(OSError, match="MB free, but 1,000,000,000,000 MB are still to come"):
        fetch(server, None)


def test_a_cache_that_cannot_be(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError, match=r"cannot be made .*set MAQUETTE_CACHE"):
        fetch(server)


def test_threads_share_a_download(server):
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: fetch(server), range(4)))
    assert len(paths) == 1 and len(server.requests) == 1


def test_models_by_name(server, monkeypatch, tmp_path):
    entry = {"url": server.url, "sha256": SHA256, "megabytes": 0}
    monkeypatch.setitem(_table(), "tiny", {"tasks": {"sculpt": ["weights"]}, "files": {"weights": entry}})
    monkeypatch.setitem(_table(), "both", {"tasks": {}, "files": {"a": entry, "b": entry}})
    assert find_weights("tiny", progress=False).read_bytes() == CONTENT
    assert find_weights("both", "b", progress=False) == find_weights("tiny")
    with pytest.raises(ValueError, match=r"unknown model 'VIT-B/33' .did you mean 'ViT-B/32'"):
        find_weights("VIT-B/33")
    with pytest.raises(ValueError, match="several files; say which: a, b"):
        find_weights("both")
    with pytest.raises(ValueError, match="ships with the package"):
        find_weights("mini")
    mine = find_weights("tiny", folder=tmp_path / "mine", progress=False)
    assert mine == tmp_path / "mine" / "tiny.pt" and mine == find_weights("tiny", folder=tmp_path / "mine")
    mine.write_bytes(CONTENT[1:])
    with pytest.raises(ValueError, match="is not the published file of that name"):
        find_weights("tiny", folder=tmp_path / "mine")


def test_openais_nine_are_known():
    models = known_models("zero-shot-image-classification")
    names = [
        "RN50",
        "RN101",
        "RN50x4",
        "RN50x16",
        "RN50x64",
        "ViT-B/32",
        "ViT-B/16",
        "ViT-L/14",
        "ViT-L/14@336px",
    ]
    assert [name for name, entry in models.items() if "files" in entry] == names
    for name in names:
        weights = models[name]["files"]["weights"]
        assert len(bytes.fromhex(weights["sha256"])) == 32 and f"/{weights['sha256']}/" in weights["url"]
    assert len({models[name]["files"]["weights"]["sha256"] for name in names}) == 9


def test_the_cache_has_a_place_of_its_own(monkeypatch):
    from maquette.weights import cache_folder

    monkeypatch.delenv("MAQUETTE_CACHE", raising=False)
    assert cache_folder().name.lower().startswith("maquette") and cache_folder().is_absolute()
    monkeypatch.setenv("MAQUETTE_CACHE", f"~{os.sep}here")
    assert "~" not in str(cache_folder())
