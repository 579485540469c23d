"""The loop, with a tiny network on shards of 8 px noise: resume, accumulation, processes, bad input."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
import yaml
from maquette.clip.training.stage import ClipTraining
from maquette.diffusion.training.stage import GlideTraining
from maquette.diffusion.training.upsampler_stage import UpsamplerTraining
from maquette.point_e.training.base_stage import PointTraining
from maquette.point_e.training.classifier_stage import ClassifierTraining
from maquette.point_e.training.surface_stage import SurfaceTraining
from maquette.point_e.training.upsampler_stage import PointUpsamplerTraining
from maquette.training import TrainConfig, fit, train
from maquette.training.precision import InDtype
from maquette.unclip.training.decoder_stage import DecoderTraining
from maquette.unclip.training.prior_stage import DiffusionPriorTraining, PriorTraining
from maquette.unclip.training.upsampler_stage import LargeUpsamplerTraining
from PIL import Image

RECIPE = {
    "steps": 70,
    "batch_size": 8,
    "micro_batch": 4,
    "learning_rate": 1e-2,
    "warmup": 5,
    "validation_samples": 10,
    "validate_every": 20,
    "sample_every": 30,
    "checkpoint_every": 10,
    "log_every": 1,
    "precision": "float32",
}


class Scaled(torch.nn.Sequential):
    """Layers and a scalar, which is what cannot be sharded."""

    def __init__(self, *layers):
        super().__init__(*layers)
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.scale * super().forward(x)


class Tiny:
    """Denoises 8 px pictures. Dropout draws from the global generator, the noise from the stage's."""

    def __init__(self, config, pause=0.0, interrupt_at=None):
        self.pause, self.calls_left = pause, interrupt_at
        torch.manual_seed(config.seed)
        self.frozen = [torch.nn.BatchNorm2d(3)]
        self.model = Scaled(
            torch.nn.Conv2d(3, 8, 3, padding=1),
            torch.nn.SiLU(),
            torch.nn.Dropout(config.model.get("dropout", 0.1)),
            torch.nn.Conv2d(8, 3, 3, padding=1),
        ).to(memory_format=torch.channels_last)

    def prepare(self, sample):
        return {"image": np.array(Image.open(io.BytesIO(sample["png"])))}

    def loss(self, model, batch, generator):
        time.sleep(self.pause)
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left == 0:
                signal.raise_signal(signal.SIGINT)
        image = batch["image"].permute(0, 3, 1, 2).float() / 127.5 - 1
        noise = torch.randn(image.shape, generator=generator)
        assert not self.frozen[0].training and not self.frozen[0].weight.requires_grad
        error = (model(self.frozen[0](image) + noise) - noise).square().mean()
        return error, {"double": 2 * error}

    def samples(self, model):
        assert not model.training
        return Image.new("RGB", (8, 8))

    def save(self, model, folder):
        torch.save(model.state_dict(), folder / "weights.pt")


def config(**changes):
    return TrainConfig(**{**RECIPE, **changes})


def run(shards, out, resume=False, stage=None, **changes):
    fit(stage or Tiny(config(**changes)), config(**changes), shards, out, resume)
    return out


def lines(out, key="loss"):
    """The lines of the log that have `key`, without what the clock says."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.endswith("per_s")} for row in rows if key in row]


def weights(out):
    return torch.load(out / "model" / "weights.pt", weights_only=True)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for shard in range(3):
        with webdataset.TarWriter(str(folder / f"shards-{shard:03d}.tar")) as writer:
            for i in range(20):
                picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                writer.write({"__key__": f"{shard}-{i:03d}", "png": picture, "txt": "noise"})
    return str(folder / "shards-{000..002}.tar")


@pytest.fixture(scope="module")
def uninterrupted(shards, tmp_path_factory):
    return run(shards, tmp_path_factory.mktemp("runs") / "whole")


def test_a_run_learns_and_leaves_its_records(uninterrupted):
    rows = lines(uninterrupted)
    assert [row["step"] for row in rows] == list(range(1, 71))
    assert np.mean([row["loss"] for row in rows[-10:]]) < 0.6 * rows[0]["loss"]
    assert all(row["double"] == pytest.approx(2 * row["loss"]) for row in rows)
    assert rows[4]["learning_rate"] == 1e-2 and rows[-1]["learning_rate"] == pytest.approx(1e-3, rel=0.05)
    assert [row["step"] for row in lines(uninterrupted, "validation_loss")] == [20, 40, 60, 70]
    assert names(uninterrupted / "samples") == [f"step-000000{n}.png" for n in (30, 60, 70)]
    assert names(uninterrupted / "checkpoints") == ["step-00000060", "step-00000070"]
    assert weights(uninterrupted)["0.weight"].dtype == torch.float32
    assert list((uninterrupted / "tensorboard").glob("events.*"))


def test_resume_after_kill_9_repeats_the_uninterrupted_run(shards, uninterrupted, tmp_path):
    out = tmp_path / "killed"
    child = subprocess.Popen([sys.executable, __file__, shards, str(out), "{}", "0.02"])
    while not (out / "log.jsonl").exists() or len(lines(out)) < 17:
        assert child.poll() is None, "the training ended before it was killed"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    half = out / "checkpoints" / ".step-00000099.1.partial"
    half.mkdir()
    run(shards, out, resume=True)
    assert not half.exists()
    assert lines(out) == lines(uninterrupted)
    assert lines(out, "validation_loss") == lines(uninterrupted, "validation_loss")
    assert all(torch.equal(weights(out)[name], value) for name, value in weights(uninterrupted).items())


def test_what_batch_norm_keeps_is_averaged_with_the_weights(shards, tmp_path):
    changes = {"steps": 6, "checkpoint_every": 0, "ema_decay": 0.9}
    stage = Tiny(config(**changes))
    stage.model.append(torch.nn.BatchNorm2d(3))
    seen = []
    stage.model[-1].register_forward_hook(lambda norm, *_: seen.append(norm.running_mean.clone()))
    run(shards, tmp_path / "run", stage=stage, validation_samples=0, **changes)
    average = torch.zeros(3)
    for step, last in enumerate(seen[1::2], start=1):  # of two micro-batches a step, the second
        average.lerp_(last, step**-0.75 if step**-0.75 > 0.1 else 0.1)
    assert torch.allclose(weights(tmp_path / "run")["4.running_mean"], average)


def test_ctrl_c_saves_and_says_how_to_go_on(shards, uninterrupted, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"saved after step 13; --resume"):
        run(shards, tmp_path / "run", stage=Tiny(config(), interrupt_at=25))
    assert signal.getsignal(signal.SIGINT) is before
    assert lines(run(shards, tmp_path / "run", resume=True)) == lines(uninterrupted)


def test_accumulation_equals_the_large_batch(shards, tmp_path):
    class Noiseless(Tiny):
        def loss(self, model, batch, generator):
            image = batch["image"].permute(0, 3, 1, 2).float() / 127.5 - 1
            return (model(image) - image).square().mean(), {}

    curves = []
    for micro in (0, 2):
        changes = {"micro_batch": micro, "steps": 20, "model": {"dropout": 0.0}}
        run(shards, tmp_path / str(micro), stage=Noiseless(config(**changes)), **changes)
        curves.append([row["loss"] for row in lines(tmp_path / str(micro))])
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def agree(one, other):
    for key in ("loss", "gradient_norm", "validation_loss"):
        curves = [[row[key] for row in lines(out, key)] for out in (one, other)]
        assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(other)[name], weight, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_repeat_one_and_one_goes_on_from_two(shard, shards, tmp_path):
    changes = {"model": {"dropout": 0.0}, "shard": shard}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = [__file__, shards, str(tmp_path / "two"), json.dumps(changes), "0"]
    subprocess.run(launch + script, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one = run(shards, tmp_path / "one", **changes)
    agree(one, tmp_path / "two")
    last, before = (tmp_path / "two" / "checkpoints" / f"step-000000{step}" for step in (70, 60))
    assert len(list(before.glob("*.safetensors"))) == 2
    shutil.rmtree(last)
    agree(one, run(shards, tmp_path / "two", resume=True, **changes))


def test_computing_in_bfloat16_keeps_weights_and_gradients_float32():
    torch.manual_seed(0)
    model = Tiny(config(model={"dropout": 0.0})).model
    x = torch.randn(4, 3, 8, 8)
    output = InDtype(model, torch.bfloat16)(x)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, model(x), atol=0.02, rtol=0.02)
    assert not torch.equal(output, model(x))
    output.square().sum().backward()
    for parameter in model.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.stride() == parameter.grad.stride()


def test_out_in_use_or_absent(shards, uninterrupted, tmp_path):
    with pytest.raises(FileExistsError, match="--resume"):
        run(shards, uninterrupted)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        run(shards, tmp_path / "absent", resume=True)
    assert not (tmp_path / "absent").exists()


def test_resume_refuses_another_run(shards, uninterrupted):
    with pytest.raises(ValueError, match=r"learning_rate 0\.01 but the recipe says 0\.02"):
        run(shards, uninterrupted, resume=True, learning_rate=0.02)
    with pytest.raises(ValueError, match="is past step 8; resume with more steps"):
        run(shards, uninterrupted, resume=True, steps=8)
    with pytest.raises(ValueError, match="other data"):
        run(shards.replace("{000..002}", "{000..001}"), uninterrupted, resume=True)
    wide = Tiny(config())
    wide.model = torch.nn.Conv2d(3, 3, 3)
    with pytest.raises(ValueError, match="another network"):
        run(shards, uninterrupted, resume=True, stage=wide)


def test_a_run_goes_on_past_a_sample_that_cannot_be_read(shards, tmp_path):
    class Picky(Tiny):
        def prepare(self, sample):
            if sample["__key__"] == "1-007":
                raise ValueError("it is broken")
            return super().prepare(sample)

    with pytest.warns(UserWarning, match=r"sample 1-007 of .* cannot be read: it is broken"):
        run(shards, tmp_path / "run", stage=Picky(config()))
    assert lines(tmp_path / "run")[-1]["step"] == config().steps


def test_a_run_that_fails_at_once_leaves_no_folder(shards, tmp_path):
    class Misshapen(Tiny):
        def loss(self, model, batch, generator):
            return super().loss(model, {"image": batch["image"][..., :2]}, generator)

    with pytest.raises(RuntimeError):
        run(shards, tmp_path / "run", stage=Misshapen(config()))
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_written_to_is_noticed_before_a_step(shards, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match="file cannot be written to"):
        run(shards, tmp_path / "file" / "run")


def test_a_start_may_lie_elsewhere_by_now_unless_it_is_mixed_in():
    before, moved = ({"stage": {"start_from": place}} for place in "ab")
    config(**moved).check_resumes(config(**before).model_dump(mode="json"))
    for some in (before, moved):
        some["stage"]["interpolate"] = 0.5
    with pytest.raises(ValueError, match="resume with the same value"):
        config(**moved).check_resumes(config(**before).model_dump(mode="json"))


def test_diverging_loss_stops_the_run_unsaved(shards, tmp_path):
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        run(shards, tmp_path / "run", learning_rate=1e30, max_gradient_norm=0, warmup=0)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lerning_rate": 1}, r"lerning_rate\n.*not permitted"),
        ({"steps": "many"}, r"steps\n.*valid integer"),
        ({"steps": 1.5}, r"steps\n.*valid integer"),
        ({"steps": 0}, r"steps\n.*greater than 0"),
        ({"learning_rate": float("inf")}, r"learning_rate\n.*finite"),
        ({"ema_decay": 1.0}, r"ema_decay\n.*less than 1"),
        ({"precision": "half"}, r"precision\n.*'auto', 'bfloat16' or 'float32'"),
        ({"model": 3}, r"model\n.*valid dictionary"),
        ({"batch_size": 10, "micro_batch": 4}, "not a multiple"),
    ],
)
def test_bad_recipes_are_named(change, message, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **change}))
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_file(path)


def test_a_short_run_warms_up_in_a_tenth_of_its_steps():
    rates = {steps: TrainConfig(steps=steps, batch_size=1, learning_rate=1.0) for steps in (1, 100, 10_000)}
    assert rates[1].rate(0) == 1
    assert rates[100].rate(4) == 0.5 and rates[100].rate(10) == 1
    assert rates[10_000].rate(249) == 0.5 and rates[10_000].rate(500) == 1


def test_recipe_files(shards, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("steps: 2\nbatch_size: 4\nlearning_rate: 1e-3\nmodel: {dropout: 0.0}\n")
    assert TrainConfig.from_file(path).learning_rate == 1e-3
    assert TrainConfig.from_file(path, steps=9).steps == 9
    with pytest.raises(ValueError, match="--data"):
        train(Tiny, path, None, tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"absent\.yaml"):
        train(Tiny, tmp_path / "absent.yaml", shards, tmp_path / "run")
    for text, message in (("batch_size: 4\n", r"steps\n.*required"), ("- 1\n", "valid dictionary")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            TrainConfig.from_file(path)
    path.write_text("steps: [1\n")
    with pytest.raises(yaml.YAMLError, match=r"recipe\.yaml"):
        TrainConfig.from_file(path)


RECIPES = {
    "clip/mini": ClipTraining,
    "diffusion/mini": GlideTraining,
    "diffusion/mini-32": GlideTraining,
    "diffusion/mini-upsampler": UpsamplerTraining,
    "point_e/mini-base": PointTraining,
    "point_e/mini-classifier": ClassifierTraining,
    "point_e/mini-surface": SurfaceTraining,
    "point_e/mini-upsampler": PointUpsamplerTraining,
    "unclip/mini-decoder": DecoderTraining,
    "unclip/mini-decoder-32": DecoderTraining,
    "unclip/mini-prior": DiffusionPriorTraining,
    "unclip/mini-autoregressive-prior": PriorTraining,
    "unclip/upsampler-1024": LargeUpsamplerTraining,
}


def test_every_recipe_is_tried():
    folder = Path(__file__).parents[1]
    assert {path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.yaml")} == set(
        RECIPES
    )


@pytest.mark.parametrize("name", RECIPES)
def test_our_recipes_are_recipes(name):
    room, name_there = name.split("/")
    read = TrainConfig.from_file(resources.files(f"maquette.{room}") / f"{name_there}.yaml")
    RECIPES[name].model_validate(read.stage)


if __name__ == "__main__":
    pattern, where, changes, pause = sys.argv[1:]
    recipe = config(**json.loads(changes))
    fit(Tiny(recipe, float(pause)), recipe, pattern, Path(where))
