"""Downloads against a real server on loopback that misbehaves."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from loopback import Loopback, corrupt, cut, hold, status, truncate
from maquette.weights import download, find_file, find_weights, known_models
from maquette.weights.table import _table

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FETCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts without it
from maquette.weights import download
download.PAUSE = 0.01
url, sha256, fsize = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
if fsize:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (fsize, fsize))
print("asking", flush=True)
try:
    print(download.find_file(url, sha256))
except OSError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("MAQUETTE_OFFLINE", raising=False)
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with Loopback(CONTENT) as server:
        yield server


def fetch(server, sha256=SHA256, **options):
    return find_file(server.url, sha256, **options)


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
    assert second.stdout.readline() == "asking\n"
    time.sleep(0.2)
    server.release.set()
    paths = {one.communicate(timeout=30)[0].split()[-1] for one in (first, second)}
    assert (first.returncode, second.returncode) == (0, 0)
    assert paths == {str(path) for path in kept(tmp_path)} and len(paths) == 1
    assert hashlib.sha256(kept(tmp_path)[0].read_bytes()).hexdigest() == SHA256
    assert [one.get("Range") for one in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize("faults", [[cut(0), cut(1), cut(70_000)], [hold(1000)]], ids=["cuts", "a stall"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_what_passes_is_waited_out(server, faults, ranges, sha256):
    server.faults, server.ranges = list(faults), ranges
    assert fetch(server, sha256).read_bytes() == CONTENT
    assert not server.faults


def test_without_a_hash_the_servers_mark_tells_what_can_be_resumed(server):
    def other(handler):
        server.content, server.etag = CONTENT, '"other"'
        cut(2000)(handler)

    def unmarked(handler):
        server.etag = None
        cut(3000)(handler)

    server.content = b"an older file" * 1000
    server.faults = [cut(1000), other, cut(500), unmarked]
    assert fetch(server, None).read_bytes() == CONTENT
    ranges = [(one.get("Range"), one.get("If-Range")) for one in server.requests]
    assert ranges == [
        (None, None),
        ("bytes=1000-", '"one"'),
        ("bytes=2000-", '"other"'),
        ("bytes=2500-", '"other"'),
        (None, None),
    ]


@pytest.mark.parametrize("old", [CONTENT, CONTENT[:1000], b""])
def test_what_an_earlier_run_left_is_used(server, tmp_path, old):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"tiny-{SHA256[:8]}.pt.partial").write_bytes(old)
    path = fetch(server)
    assert path.read_bytes() == CONTENT and kept(tmp_path) == [path]
    assert server.sent == len(CONTENT) - len(old)


@pytest.mark.parametrize("old", [b"of another file", CONTENT + b"more"])
def test_what_was_left_of_another_file_is_deleted(server, tmp_path, old):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"tiny-{SHA256[:8]}.pt.partial").write_bytes(old)
    with pytest.raises(ValueError, match="is not the published file"):
        fetch(server)
    assert fetch(server).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", [corrupt, truncate(1000)])
def test_wrong_content_is_deleted(server, tmp_path, fault):
    server.faults = [fault]
    with pytest.raises(ValueError, match=rf"is not the published file .*expected {SHA256}.* was deleted"):
        fetch(server)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("code", [404, 503])
def test_a_refusal_fails_at_once(server, tmp_path, code):
    server.faults = [status(code)]
    with pytest.raises(httpx.HTTPStatusError, match=str(code)):
        fetch(server)
    assert len(server.requests) == 1 and kept(tmp_path) == []


def test_a_server_that_stays_bad_is_given_up_with_what_came(server, tmp_path):
    server.faults = [cut(1000), *[cut(0)] * 9]
    with pytest.raises(httpx.RemoteProtocolError):
        fetch(server)
    assert len(server.requests) == 1 + download.TRIES
    assert [path.stat().st_size for path in kept(tmp_path)] == [1000]
    server.faults = []
    assert fetch(server).read_bytes() == CONTENT and server.requests[-1]["Range"] == "bytes=1000-"


def test_no_network(server, tmp_path):
    server.shutdown()
    server.socket.close()
    with pytest.raises(httpx.ConnectError) as failed:
        fetch(server)
    assert server.url in failed.value.__notes__[0]
    assert kept(tmp_path) == []


def test_a_proxy_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    path = find_file("http://weights.example/tiny.pt", SHA256)
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
    server.faults = [hold(1000)]
    running = process(server)
    assert server.asked.wait(30)
    while not kept(tmp_path):
        time.sleep(0.01)
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in running.communicate(timeout=30)[1]
    assert fetch(server).read_bytes() == CONTENT and server.requests[-1]["Range"] == "bytes=1000-"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the shell")
def test_a_full_disk_leaves_what_can_be_resumed(server, tmp_path):
    running = process(server, fsize=100_000)
    assert "File too large" in running.communicate(timeout=20)[1] and running.returncode == 1
    assert [path.stat().st_size for path in kept(tmp_path)] == [100_000]
    assert fetch(server).read_bytes() == CONTENT and server.requests[-1]["Range"] == "bytes=100000-"


def test_threads_share_a_download(server):
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: fetch(server), range(4)))
    assert len(paths) == 1 and len(server.requests) == 1


def test_models_by_name(server, monkeypatch, tmp_path):
    entry = {"url": server.url, "sha256": SHA256, "megabytes": 0}
    monkeypatch.setitem(_table(), "tiny", {"tasks": {"sculpt": ["weights"]}, "files": {"weights": entry}})
    monkeypatch.setitem(_table(), "both", {"tasks": {}, "files": {"a": entry, "b": entry}})
    assert find_weights("tiny").read_bytes() == CONTENT
    assert find_weights("both", "b") == find_weights("tiny")
    with pytest.raises(ValueError, match=r"unknown model 'VIT-B/33' .did you mean 'ViT-B/32'"):
        find_weights("VIT-B/33")
    with pytest.raises(ValueError, match="several files; say which: a, b"):
        find_weights("both")
    with pytest.raises(ValueError, match="ships with the package"):
        find_weights("mini")
    mine = find_weights("tiny", folder=tmp_path / "mine")
    assert mine == tmp_path / "mine" / "tiny.pt" and mine == find_weights("tiny", folder=tmp_path / "mine")
    mine.write_bytes(CONTENT[1:])
    with pytest.raises(ValueError, match="is not the published file"):
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
