"""Zero-shot classification, in Python and through `maquette classify` and `maquette evaluate`."""

import json
import shutil

import numpy as np
import pytest
import torch
from maquette.__main__ import main
from maquette.clip import ClipEncoder, ClipModel, ZeroShotClassifier
from maquette.clip.zero_shot import embed_labels
from PIL import Image
from test_clip_words import write_tar
from tiny_models import tiny_clip

COLOURS = {"red": (220, 30, 20), "green": (20, 190, 50), "blue": (30, 40, 220)}


def draw(colour, seed=0):
    """A plain picture with some noise."""
    noise = np.random.default_rng(seed).normal(0, 15, (20, 24, 3))
    return Image.fromarray((noise + COLOURS[colour]).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


@pytest.fixture(scope="module")
def model(clip, tmp_path_factory):
    """A folder of the same model."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    clip.save_pretrained(folder)
    return folder


@pytest.fixture
def colours(tmp_path):
    """A folder of three classes with 6 pictures each."""
    for colour in COLOURS:
        (tmp_path / "data" / colour).mkdir(parents=True)
        for seed in range(6):
            draw(colour, seed).save(tmp_path / "data" / colour / f"{seed}.png")
    return tmp_path / "data"


@pytest.fixture
def command(model, tmp_path, monkeypatch, capsys):
    """command("classify", "a.png", …) -> (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, model=model):
        code = main([*map(str, arguments), "--model", str(model)])
        return code, *capsys.readouterr()

    return run


def test_an_ensemble_is_the_mean_direction_of_its_sentences(clip):
    labels, templates = ("red chair", "{} mug"), ("a {}", "a photo of a {}", "a small {}")
    expected = []
    for label in labels:
        mean = clip.embed_texts([template.replace("{}", label) for template in templates]).mean(0)
        expected.append(mean / mean.norm())
    torch.testing.assert_close(embed_labels(clip, labels, templates), torch.stack(expected))


def test_labels_in_pieces_are_the_same(clip, monkeypatch):
    labels = [f"chair {i}" for i in range(7)]
    whole = embed_labels(clip, labels, ("a {}", "{}"))
    monkeypatch.setattr("maquette.clip.zero_shot.LABELS_AT_ONCE", 2)
    torch.testing.assert_close(embed_labels(clip, labels, ("a {}", "{}")), whole)


def test_scores_are_the_softmax_of_scaled_cosines_best_first(clip, tmp_path):
    draw("red").save(tmp_path / "red.png")
    classify = ZeroShotClassifier(clip, ["a mug", "a car", "a tree"], ["{}"])
    several = classify([draw("red"), tmp_path / "red.png", draw("blue")])
    cosines = clip.embed_images([draw("red"), draw("blue")]) @ clip.embed_texts(classify.labels).T
    for result, row in zip(several[1:], (clip.logit_scale * cosines).softmax(-1), strict=True):
        assert [each["label"] for each in result] == [
            classify.labels[i] for i in row.argsort(descending=True)
        ]
        assert {each["label"]: each["score"] for each in result} == pytest.approx(
            dict(zip(classify.labels, row.tolist(), strict=True)), abs=1e-4
        )
    for alone, row in zip(classify(str(tmp_path / "red.png"), top_k=2), several[0], strict=False):
        assert alone == {"label": row["label"], "score": pytest.approx(row["score"], abs=1e-4)}
    assert several[0] == several[1]
    assert [each["label"] for each in classify(draw("red"), ["only this"])] == ["only this"]


def test_a_model_of_the_sigmoid_loss_judges_each_label_by_itself():
    softmax = tiny_clip()
    config = {key: value for key, value in softmax.encoder.config.items() if not key.startswith("_")}
    encoder = ClipEncoder(**config | {"sigmoid": True}).requires_grad_(False)
    clip = ClipModel(encoder, softmax.tokenizer)
    encoder.logit_bias.fill_(-1.5)
    result = ZeroShotClassifier(clip, ["a mug", "a car"])(draw("red"))
    cosines = clip.embed_images([draw("red")]) @ embed_labels(clip, ["a mug", "a car"]).T
    expected = (clip.logit_scale * cosines - 1.5).sigmoid()[0]
    assert [each["score"] for each in result] == pytest.approx(
        sorted(expected.tolist(), reverse=True), abs=1e-5
    )


def test_the_vectors_of_labels_are_computed_once(clip, monkeypatch):
    classify = ZeroShotClassifier(clip, ["a mug", "a car"])
    first = classify(draw("red"))
    monkeypatch.setattr(clip.encoder, "encode_text", None)
    assert classify(draw("red")) == first
    with pytest.raises(TypeError):
        classify(draw("red"), ["a tree"])


def test_what_cannot_be_classified_is_one_sentence(clip, tmp_path):
    classify = ZeroShotClassifier(clip, ["a mug"])
    for arguments, message in (
        (([],), "there are no pictures"),
        ((tmp_path / "no.png",), "No such file .*no.png"),
        ((draw("red"), ["a", "a"]), "the label 'a' is there twice"),
        (
            (tmp_path / "no.png", ["a mug", "word " * 400]),
            r"the label '(word )+wo…' is too long: in the template 'a photo of a {}' .* takes 2\d; shorten the label",
        ),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            classify(*arguments)
    with pytest.raises(ValueError, match="there are no labels; give them"):
        ZeroShotClassifier(clip)(draw("red"))
    with pytest.raises(ValueError, match="label 1 is blank"):
        ZeroShotClassifier.from_pretrained("no such model", labels=[" "])


def test_the_command_prints_bars_or_json(command, colours):
    code, out, err = command("classify", colours / "red/0.png", "--labels", "red, green,blue", "-k", 2)
    lines = out.splitlines()
    assert (code, len(lines), err) == (0, 2, "")
    assert all("%" in line and set("█#") & set(line) for line in lines[:1])
    code, out, _ = command(
        "classify", colours / "red", colours / "blue/1.png", "--labels", "red,green", "--json"
    )
    results = json.loads(out)
    assert code == 0 and len(results) == 7
    assert results[6]["picture"] == str(colours / "blue/1.png")
    for result in results:
        assert sum(each["score"] for each in result["labels"]) == pytest.approx(1)


def test_a_broken_picture_among_others_is_reported_and_the_others_done(command, colours):
    (colours / "red/1.png").write_bytes(b"no picture")
    arguments = ("classify", colours / "red", "nowhere.png", "--labels", "red,green")
    code, out, err = command(*arguments)
    assert code == 2 and out.count("0.png") == 1 and "1.png" not in out
    assert [line.split(": ")[0] for line in err.splitlines()] == ["maquette", "maquette"]
    assert "1.png: not a picture" in err and "nowhere.png: [Errno 2]" in err
    code, out, _ = command(*arguments, "--json")
    assert code == 2
    assert ["error" in each for each in json.loads(out)] == [False, True, False, False, False, False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "bad.png", "--labels", "a,b"], "cannot identify image file 'bad.png'"),
        (["classify", "bad.png", "bad.png", "--labels", "a,b"], "bad.png: not a picture"),
        (["classify", "empty", "--labels", "a,b"], "the folder empty holds no pictures"),
        (["classify", "no.png", "also-no.png", "--labels", "a,b"], "No such file or directory: 'no.png'"),
        (["classify", "bad.png", "--labels", "a,a"], "the label 'a' is there twice"),
        (["classify", "bad.png", "--labels", ""], "there are no labels"),
        (["classify", "bad.png", "--labels", "a", "--templates", "{} {}"], "needs exactly one {}"),
        (["classify", "bad.png", "--labels", "a", "-k", "0"], "greater than or equal to 1"),
        (["classify", "good.png", "--labels", "word " * 400], "the label 'word word"),
        (["evaluate", "glade", "--data", "data"], "No such command 'glade'"),
        (["evaluate", "clip", "--data", "nowhere"], "there is no shard or folder nowhere"),
        (["evaluate", "clip", "--data", "empty"], "empty has no sub-folders"),
        (["evaluate", "clip", "--data", "data", "--labels", "a,b"], "3 sub-folders, but there are 2 labels"),
        (["evaluate", "clip", "--data", "data", "--confusion", "c.txt"], "does not end like a picture"),
        (["evaluate", "clip", "--data", "data", "--retrieval"], "holds no shards"),
        (
            ["evaluate", "clip", "--data", "x.tar", "--retrieval", "--labels", "a"],
            "--retrieval goes by captions",
        ),
        (["evaluate", "clip", "--data", "data", "--probe", "other"], "no pictures of 'blue' to train"),
        (["evaluate", "clip", "--data", "broken"], "none of the 2 pictures can be read"),
    ],
)
def test_bad_input_is_one_sentence(command, colours, tmp_path, arguments, message):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    draw("red").save(tmp_path / "good.png")
    (tmp_path / "empty").mkdir()
    shutil.copytree(colours / "red", tmp_path / "other/red")
    for name in ("broken/a/1.png", "broken/b/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"no picture")
    code, out, err = command(*arguments)
    sentence = err.splitlines()[-1]
    assert (code, out) == (2, "") and message in sentence
    assert sentence.startswith("maquette: ") and "Traceback" not in err


def test_evaluation_counts_and_probes_learn(command, colours, tmp_path):
    (colours / "red/5.png").write_bytes(b"no picture")
    arguments = ("evaluate", "clip", "--data", colours, "--probe", colours, "--confusion", "c.png")
    code, out, _ = command(*arguments, "--json")
    result = json.loads(out)
    assert code == 0 and Image.open(tmp_path / "c.png").width > 100
    assert [row["label"] for row in result["zero-shot"]["classes"]] == ["blue", "green", "red"]
    assert [row["pictures"] for row in result["zero-shot"]["classes"]] == [6, 6, 5]
    # A random network tells plain colours apart, though it does not know their names.
    assert result["linear probe"]["top1"] == result["nearest 20"]["top5"] == 1
    assert len(result["skipped"]) == 1 and "5.png: not a picture" in result["skipped"][0]
    code, out, err = command(*arguments)
    assert code == 0 and out.splitlines()[-1] == str(tmp_path / "c.png") and "left out: " in err
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["zero-shot", "linear", "nearest"]


def test_captions_and_pictures_find_each_other(command, colours, tmp_path):
    files = {}
    for number, colour in enumerate(COLOURS):
        files[f"{number}.png"] = (colours / colour / "0.png").read_bytes()
        files[f"{number}.txt"] = f"a {colour} chair".encode()
    write_tar(tmp_path / "pairs.tar", files | {"9.png": b"no picture", "9.txt": b"lost"})
    code, out, _ = command("evaluate", "clip", "--data", "pairs.tar", "--retrieval", "--json")
    result = json.loads(out)
    assert code == 0 and result["pairs"] == 3 and "9.png: not a picture" in result["skipped"][0]
    assert result["image_to_text"]["5"] == result["text_to_image"]["5"] == 1
    _, out, _ = command("evaluate", "clip", "--data", "pairs.tar", "--retrieval")
    assert out.splitlines()[0] == "3 pairs" and "100.0 % in the first 10" in out
