"""The loop, with a tiny network on shards of 8 px pictures: resume after kill -9, accumulation, processes, errors."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds
import yaml
from PIL import Image

from maquette.training import TrainConfig, fit, train

HERE = Path(__file__).resolve()
RECIPE = {
    "steps": 60, "batch_size": 8, "micro_batch": 4, "learning_rate": 1e-2, "warmup": 5, "validation_samples": 10,
    "validate_every": 20, "sample_every": 30, "checkpoint_every": 10, "log_every": 1, "precision": "float32",
}  # fmt: skip


class Tiny:
    """Denoises 8 px pictures; dropout makes it depend on the global generator, too."""

    flops_per_sample = 1e6

    def __init__(self, config, pause=0.0):
        self.pause = pause
        torch.manual_seed(config.seed)
        self.model = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Dropout(config.model.get("dropout", 0.1)),
            torch.nn.Conv2d(8, 3, 3, padding=1),
        ).to(memory_format=torch.channels_last)  # fmt: skip

    def prepare(self, sample):
        return {"image": np.array(Image.open(io.BytesIO(sample["png"])))}

    def loss(self, model, batch, generator):
        time.sleep(self.pause)
        image = batch["image"].permute(0, 3, 1, 2).float() / 127.5 - 1
        noise = torch.randn(image.shape, generator=generator)
        error = (model(image + noise) - noise).square().mean()
        return error, {"double": 2 * error}

    def samples(self, model):
        assert not model.training
        return Image.new("RGB", (8, 8))

    def save(self, model, folder):
        torch.save(model.state_dict(), folder / "weights.pt")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for shard in range(3):
        with wds.TarWriter(str(folder / f"shards-{shard:03d}.tar")) as writer:
            for i in range(20):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                writer.write({"__key__": f"{shard}-{i:03d}", "png": Image.fromarray(pixels), "txt": f"noise {i}"})
    return str(folder / "shards-{000..002}.tar")


def config(**changes):
    return TrainConfig.from_dict({**RECIPE, **changes})


def lines(out, key="loss"):
    """The log without what the clock says."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.endswith("per_s")} for row in rows if key in row]


@pytest.fixture(scope="module")
def uninterrupted(shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(Tiny(config()), config(), shards, out)
    return out


def test_a_run_leaves_a_learned_network_and_its_records(uninterrupted):
    rows = lines(uninterrupted)
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert np.mean([row["loss"] for row in rows[-10:]]) < 0.6 * rows[0]["loss"]
    assert all(row["double"] == pytest.approx(2 * row["loss"]) for row in rows)
    assert [row["step"] for row in lines(uninterrupted, "validation_loss")] == [20, 40, 60]
    assert sorted(p.name for p in (uninterrupted / "samples").iterdir()) == ["step-00000030.png", "step-00000060.png"]
    assert sorted(p.name for p in (uninterrupted / "checkpoints").iterdir()) == ["step-00000050", "step-00000060"]
    assert torch.load(uninterrupted / "model" / "weights.pt", weights_only=True)["0.weight"].dtype == torch.float32
    assert list((uninterrupted / "tensorboard").glob("events.*"))


def test_resume_after_kill_9_repeats_the_uninterrupted_run(shards, uninterrupted, tmp_path):
    out = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, str(HERE), shards, str(out), json.dumps({}), "0.02"])
    log = out / "log.jsonl"
    while not (log.exists() and log.read_text().count('"loss"') >= 17):
        assert child.poll() is None, "the training ended before it was killed"
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    half = out / "checkpoints" / ".step-00000099.partial"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    fit(Tiny(config()), config(), shards, out, resume=True)
    assert lines(out) == lines(uninterrupted)
    assert lines(out, "validation_loss") == lines(uninterrupted, "validation_loss")
    ours, theirs = (torch.load(o / "model" / "weights.pt", weights_only=True) for o in (out, uninterrupted))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


if __name__ == "__main__":
    pattern, where, changes, nap = sys.argv[1:]
    run = config(**json.loads(changes))
    fit(Tiny(run, float(nap)), run, pattern, where)
