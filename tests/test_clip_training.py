"""Training CLIP: gradients in chunks, what is trained and what stays, and recipes that make no sense."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from maquette.clip import ClipEncoder, ClipModel
from maquette.clip.training.fine_tuning import choose_trained
from maquette.clip.training.interpolate import interpolate
from maquette.clip.training.loss import contrastive_loss
from maquette.clip.training.stage import ClipStage, _drawn
from maquette.training import TrainConfig, fit
from maquette.training.adapters import merged
from maquette.training.precision import InDtype
from PIL import Image
from tiny_models import TINY_CLIP, tiny_clip, whole_and_resumed

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "purple", "orange")
TINY = {**TINY_CLIP, "image_resolution": 16, "vision_layers": 1, "transformer_layers": 1}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Plain pictures of eight colours, each with a caption and a question."""
    path = tmp_path_factory.mktemp("shards") / "s-0.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(4 * len(COLOURS)):
            colour, picture = COLOURS[number % len(COLOURS)], io.BytesIO()
            Image.new("RGB", (20, 20), colour).save(picture, "png")
            files = {"png": picture.getvalue(), "txt": f"a {colour} ball".encode()}
            files["query.txt"] = f"is there something {colour}".encode()
            for extension, content in files.items():
                member = tarfile.TarInfo(f"{number:03d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return str(path)


def config(steps=3, model=None, **stage):
    return TrainConfig(
        steps=steps,
        batch_size=16,
        learning_rate=3e-3,
        warmup=2,
        log_every=1,
        validation_samples=4,
        ema_decay=0.5,
        precision="float32",
        checkpoint_every=2,
        shard=True,  # where there are several processes
        model=model or {},
        stage=stage,
    )


def train(shards, out, steps=3, **changes):
    """(the model that a run has saved, the losses on the way)."""
    recipe = config(steps, **changes)
    out = Path(out)
    folder = fit(ClipStage(recipe), recipe, shards, out)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    trained = ClipModel.from_pretrained(folder, dtype=torch.float32)
    return trained, [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def started(shards, tmp_path_factory):
    """(folder, model, losses) of something to fine-tune."""
    folder = tmp_path_factory.mktemp("runs") / "start"
    return folder / "model", *train(shards, folder, 10, chunk=6, model=TINY)


@pytest.fixture
def start(started):
    """(folder, model) of it."""
    return started[:2]


def same(a, b):
    return {name for name, weight in a.state_dict().items() if torch.equal(weight, b.state_dict()[name])}


def batch(rows=24):
    draw = torch.Generator().manual_seed(0)
    return torch.randn(rows, 3, 32, 32, generator=draw), torch.randint(300, (rows, 24), generator=draw)


def gradients(encoder, dtype, chunk):
    encoder.zero_grad()
    contrastive_loss(*InDtype(encoder, dtype)(*batch(), chunk=chunk)).backward()
    found = {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}
    assert all(p.grad is None for p in encoder.parameters() if not p.requires_grad)
    return torch.cat([gradient.flatten() for gradient in found.values()])


@pytest.mark.parametrize("trained", ["all", "text", "lora"])
def test_chunks_have_the_gradient_of_the_whole(trained):
    encoder = tiny_clip().encoder
    torch.manual_seed(0)  # of the adapters
    choose_trained(encoder, trained)
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    whole = gradients(encoder, torch.float32, 0)
    for chunk in (5, 24):
        assert (gradients(encoder, torch.float32, chunk) - whole).norm() <= 1e-5 * whole.norm()
    for chunk in (0, 5):
        assert (gradients(encoder, torch.bfloat16, chunk) - whole).norm() <= 0.05 * whole.norm()


def test_chunks_keep_only_what_goes_in_and_comes_out():
    encoder = tiny_clip().encoder.requires_grad_()

    def kept(chunk):
        """How many numbers autograd keeps of a forward pass."""
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder(*batch(32), chunk=chunk)
        return sum(sizes)

    inputs = sum(x.numel() for x in batch(32))
    assert inputs <= kept(4) < inputs + 0.02 * kept(0)


def test_without_gradients_chunks_are_computed_one_by_one():
    encoder, sizes = tiny_clip().encoder, []
    encoder.visual.register_forward_hook(lambda module, inputs, outputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        whole, parts = encoder(*batch()), encoder(*batch(), chunk=7)
    torch.testing.assert_close(parts, whole)
    assert sizes == [24, 7, 7, 7, 3]


def test_a_resnet_trains_in_bfloat16():
    layout = {**TINY, "image_resolution": 32, "vision_layers": [1, 1, 1, 1], "vision_width": 16}
    encoder = ClipEncoder(**layout, vocab_size=300).train()
    contrastive_loss(*InDtype(encoder, torch.bfloat16)(*batch(4))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_one_of_several_captions_is_drawn():
    stage, picture = ClipStage(config(model=TINY)), io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "png")
    sample = {"__key__": "0", "png": picture.getvalue(), "captions.txt": b"a red ball\n\na ball\n"}
    expected = stage.tokenizer(["a red ball", "a ball"] * 2, 24)
    assert torch.equal(stage.prepare(sample)["tokens"], expected)
    sample = {"__key__": "0", "png": picture.getvalue(), "txt": b"a red\nball"}
    assert torch.equal(stage.prepare(sample)["tokens"], stage.tokenizer(["a red ball"] * 4, 24))
    drawn = _drawn(expected.expand(40, 4, 24), torch.Generator().manual_seed(0))
    assert {tuple(row) for row in drawn.tolist()} == {tuple(row) for row in expected.tolist()}


def test_both_losses_fall(shards, tmp_path, started):
    _, model, losses = started
    assert losses[-1] < 0.9 * losses[0] and model.logit_bias is None
    model, losses = train(shards, tmp_path / "run", 8, loss="sigmoid", model=TINY)
    assert losses[-1] < 0.9 * losses[0] and -11 < model.logit_bias < -9


def test_a_locked_image_tower_stays_as_it_is(shards, tmp_path, start):
    folder, before = start
    after = train(shards, tmp_path / "run", 2, start_from=str(folder), train="text")[0]
    unchanged = same(before.encoder, after.encoder)
    assert {name for name in before.encoder.state_dict() if name.startswith("visual.")} <= unchanged
    assert "transformer.resblocks.0.attn.c_qkv.weight" not in unchanged


def test_adapters_are_merged_into_a_plain_encoder(shards, tmp_path, start):
    folder, before = start
    after = train(shards, tmp_path / "run", 2, start_from=str(folder), train="lora", lora_rank=4)[0]
    changed = set(before.encoder.state_dict()) - same(before.encoder, after.encoder) - {"logit_scale"}
    ends = ("attn.c_qkv.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    towers = ("transformer.resblocks.0.", "visual.transformer.resblocks.0.")
    assert changed == {tower + end for tower in towers for end in ends}
    configs = [
        json.loads((path / "encoder" / "config.json").read_text())
        for path in (folder, tmp_path / "run" / "model")
    ]
    assert configs[0] == configs[1]
    difference = (
        after.encoder.state_dict()[towers[0] + ends[0]] - before.encoder.state_dict()[towers[0] + ends[0]]
    )
    assert torch.linalg.matrix_rank(difference, rtol=1e-3) <= 4


def test_merging_changes_nothing_that_comes_out():
    encoder = tiny_clip().encoder
    names = list(encoder.state_dict())
    choose_trained(encoder, "lora", 3)
    for parameter in encoder.parameters():
        if parameter.requires_grad and parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.1)
    expected = encoder(*batch(2))
    plain = merged(encoder)
    assert set(plain.state_dict()) == set(names)
    for ours, theirs in zip(plain(*batch(2))[:2], expected[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_interpolation_goes_from_the_start_to_the_trained(shards, tmp_path, start):
    folder, before = start
    mixed = train(shards, tmp_path / "run", 1, start_from=str(folder), interpolate=0, loss="sigmoid")[0]
    assert same(before.encoder, mixed.encoder) == set(before.encoder.state_dict())
    one, two = tiny_clip().encoder, tiny_clip().encoder
    two.load_state_dict({name: weight + 1 for name, weight in one.state_dict().items()})
    for name, weight in interpolate(one, two, 0.25).state_dict().items():
        torch.testing.assert_close(weight, one.state_dict()[name] + 0.25, rtol=0, atol=1e-6)
    assert same(interpolate(one, two, 1), two) == set(two.state_dict())
    plain = {key: value for key, value in one.config.items() if not key.startswith("_")}
    biased = ClipEncoder(**plain | {"sigmoid": True})
    assert (
        interpolate(biased, one, 0.5).logit_bias is None and interpolate(one, biased, 0.5).logit_bias == -10
    )


def test_pairs_of_texts_train_the_text_tower(shards, tmp_path, start):
    folder, before = start
    model, losses = train(shards, tmp_path / "run", 8, start_from=str(folder), pairs="text-text")
    assert losses[-1] < 0.95 * losses[0]
    assert "visual.proj" in same(before.encoder, model.encoder)


def test_a_scale_beyond_the_limit_is_taken_back(shards):
    stage = ClipStage(config(model=TINY))
    stage.model.logit_scale.data.fill_(9.0)
    draw = torch.Generator().manual_seed(0)
    pixels, tokens = torch.randn(4, 3, 16, 16, generator=draw), torch.randint(300, (4, 24), generator=draw)
    metrics = stage.loss(stage.model, {"pixels": pixels, "tokens": tokens}, draw)[1]
    assert (
        metrics["logit_scale"].item()
        == pytest.approx(stage.model.logit_scale.exp().item())
        == pytest.approx(100)
    )


@pytest.mark.slow
def test_two_processes_with_shards_and_chunks_repeat_one(shards, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run(
        [*launch, __file__, shards, str(tmp_path / "two")],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    one, losses = train(shards, tmp_path / "one", 6, chunk=3, model=TINY)
    rows = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows if "loss" in row] == pytest.approx(losses, rel=1e-3)
    two = ClipModel.from_pretrained(tmp_path / "two" / "model", dtype=torch.float32).encoder.state_dict()
    for name, weight in one.encoder.state_dict().items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-3)


def test_resuming_after_a_crash_repeats_the_uninterrupted_run(shards, tmp_path, started):
    recipe = config(7, start_from=str(started[0]), train="lora", lora_rank=2, chunk=6)
    folders = whole_and_resumed(ClipStage, recipe, shards, tmp_path, calls=6, saved=[2, 4])
    models = [ClipModel.from_pretrained(folder, dtype=torch.float32).encoder for folder in folders]
    assert same(*models) == set(models[0].state_dict())


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"chanks": 1}, r"chanks\n.*not permitted"),
        ({"loss": "softmax"}, r"loss\n.*'contrastive' or 'sigmoid'"),
        ({"chunk": -1}, r"chunk\n.*greater than or equal to 0"),
        ({"interpolate": 2, "start_from": "x"}, r"interpolate\n.*less than or equal to 1"),
        ({"interpolate": 0.5}, "need a trained model .* add start_from"),
        ({"train": "text"}, "need a trained model"),
        ({"train": "images", "start_from": "x"}, r"train\n.*'all', 'text' or 'lora'"),
    ],
)
def test_stages_that_make_no_sense(stage, says):
    with pytest.raises(ValueError, match=says):
        ClipStage(config(model=TINY, **stage))


def test_models_that_make_no_sense():
    said = r"unknown key 'vision_witdh' under model: \(did you mean 'vision_width'\?\); known are embed_dim"
    with pytest.raises(ValueError, match=said):
        ClipStage(config(model={**TINY, "vision_witdh": 1}))
    resnet = {"vision_layers": [1, 1, 1, 1], "vision_patch_size": None, "image_resolution": 32}
    with pytest.raises(ValueError, match="batch norm"):
        ClipStage(config(model=TINY | resnet, chunk=8))


def test_starts_that_do_not_fit(start, tmp_path):
    folder = str(start[0])
    for changes, says in (
        ({"model": {"vision_width": 48}}, "has vision_width 32, but model: in the recipe says 48"),
        ({"tokenizer": "openai"}, "another tokenizer"),
    ):
        with pytest.raises(ValueError, match=says):
            ClipStage(config(start_from=folder, **changes))
    with pytest.raises(FileNotFoundError, match="none"):
        ClipStage(config(start_from=str(tmp_path / "none")))
    with pytest.raises(ValueError, match="drop micro_batch"):
        ClipStage(TrainConfig(steps=1, batch_size=4, micro_batch=2, learning_rate=1e-3, model=TINY))


if __name__ == "__main__":
    train(*sys.argv[1:], 6, chunk=3, model=TINY)
