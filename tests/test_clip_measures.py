"""Recall, top-k, probes and the confusion picture, against answers that are known or counted plainly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.clip.evaluation import retrieval
from maquette.clip.evaluation.confusion_picture import confusion_picture
from maquette.clip.evaluation.evaluate import evaluate_scores
from maquette.clip.evaluation.probe import best_strength, linear_probe, nearest_neighbours
from maquette.clip.evaluation.retrieval import retrieval_recall
from sklearn.linear_model import LogisticRegression


def plain_recall(queries, answers, k):
    scores = queries @ answers.T
    wrong = [sum(row[j] >= row[i] for j in range(len(row)) if j != i) for i, row in enumerate(scores)]
    return sum(each < k for each in wrong) / len(queries)


# Small whole numbers, so that ties are frequent and exact.
vector = st.lists(st.integers(-2, 2), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_recall_is_what_counting_gives(data):
    count = data.draw(st.integers(1, 8))
    images, texts = (np.array(data.draw(st.lists(vector, min_size=count, max_size=count))) for _ in range(2))
    tensors = [torch.tensor(each, dtype=torch.float32) for each in (images, texts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_AT_ONCE", 2)
        recall = retrieval_recall(*tensors)
    for k in (1, 5, 10):
        assert recall["image_to_text"][k] == pytest.approx(plain_recall(images, texts, k))
        assert recall["text_to_image"][k] == pytest.approx(plain_recall(texts, images, k))


def test_one_vector_for_all_finds_nothing():
    vectors = torch.eye(50)
    assert retrieval_recall(vectors, vectors)["image_to_text"][1] == 1
    assert retrieval_recall(vectors, vectors.roll(1, 0))["text_to_image"] == {1: 0, 5: 0, 10: 0}
    same = torch.ones(50, 4) / 2
    assert retrieval_recall(same, same)["image_to_text"] == {1: 0, 5: 0, 10: 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.eye(3), torch.eye(4)), "vectors .* not"),
        ((torch.eye(3), torch.eye(3)[:2]), "as many of texts"),
        ((torch.eye(3) * torch.nan, torch.eye(3)), "not finite"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        retrieval_recall(*arguments)


def test_scores_are_counted_by_class():
    #         a    b    c    d    e    f
    scores = [[.9, .1, .0, .0, .0, .0],  # a, called a
              [.1, .9, .2, .3, .4, .5],  # a, called b, sixth
              [.5, .5, .0, .0, .0, .0],  # b, tied with a, which comes first
              [.0, .1, .2, .3, .4, .5]]  # c, called f, fourth  # fmt: skip
    result = evaluate_scores(scores, [0, 0, 1, 2], "abcdef")
    assert (result.pictures, result.top1, result.top5) == (4, 0.25, 0.75)
    assert result.mean_per_class == pytest.approx(0.5 / 3)
    assert result.classes() == [
        {"label": "a", "pictures": 2, "top1": 0.5, "top5": 0.5, "taken_for": "b"},
        {"label": "b", "pictures": 1, "top1": 0.0, "top5": 1.0, "taken_for": "a"},
        {"label": "c", "pictures": 1, "top1": 0.0, "top5": 1.0, "taken_for": "f"},
    ]
    for wrong in ([[np.nan] * 6], [[0.0] * 5], np.zeros((0, 6))):
        with pytest.raises(ValueError, match="scores"):
            evaluate_scores(wrong, [0] * len(wrong), "abcdef")


@pytest.fixture(scope="module")
def clusters():
    """Vectors around four of five directions, 30 of each to learn from and 20 to be asked about."""
    draw = np.random.default_rng(0)
    centres = np.eye(5, 16)
    targets = np.repeat([0, 1, 3, 4], 50)
    vectors = centres[targets] + draw.normal(scale=0.15, size=(200, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    learn = np.tile(np.arange(50) < 30, 4)
    return vectors[learn], targets[learn], vectors[~learn], targets[~learn]


def test_a_probe_of_few_pictures_learns_as_well_from_vectors_of_length_1_as_openais_does_from_longer_ones():
    draw = np.random.default_rng(0)
    near = np.ones(64) + draw.normal(scale=0.4, size=(20, 64))  # as CLIP's vectors, all in one corner
    vectors = np.repeat(near, 2, axis=0) + draw.normal(scale=0.2, size=(40, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    targets = np.repeat(np.arange(20), 2)
    assert best_strength(vectors, targets) == 31.6
    theirs = LogisticRegression(C=0.316, max_iter=1000).fit(10 * vectors, targets)
    expected = theirs.predict_log_proba(10 * vectors)
    np.testing.assert_allclose(linear_probe(vectors, targets, vectors, 20), expected, atol=0.05)


def test_probes_learn_clusters_and_keep_the_place_of_an_absent_class(clusters):
    train, train_targets, test, targets = clusters
    assert best_strength(train, train_targets) in (0.0316, 0.316, 3.16, 31.6, 316.0, 3160.0)
    for probe in (linear_probe, nearest_neighbours):
        result = evaluate_scores(probe(train, train_targets, test, 5), targets, "abcde")
        assert result.top1 > 0.95 and result.confusion[:, 2].sum() == 0


def test_nearest_neighbours_vote_as_counted_plainly(clusters):
    train, train_targets, test, _ = clusters
    cosines = test @ train.T
    expected = np.zeros((len(test), 5))
    for i, row in enumerate(cosines):
        for j in np.argsort(-row)[:20]:
            expected[i, train_targets[j]] += np.exp(row[j] / 0.07)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(nearest_neighbours(train, train_targets, test, 5), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_targets": [1, 1]}, "at least two classes"),
        ({"train_targets": [0, 9]}, "from 0 to 2"),
        ({"train_targets": [0]}, "N targets"),
        ({"test": np.eye(2)}, r"\[N, D\]"),
        ({"test": np.full((1, 3), np.inf)}, "not finite"),
    ],
)
def test_probes_refuse_what_cannot_be_learnt(change, message):
    arguments = {"train": np.eye(2, 3), "train_targets": [0, 1], "test": np.eye(2, 3), "classes": 3}
    with pytest.raises(ValueError, match=message):
        linear_probe(**(arguments | change))


@pytest.mark.parametrize("classes", [1, 3, 50, 51, 2300])
def test_a_confusion_is_dark_where_its_counts_are(classes):
    confusion = np.eye(classes, dtype=int) * 7
    picture = confusion_picture(confusion, ["Ein langer Name, der gekürzt werden muss"] * classes)
    wide = 700 < picture.width < 1500 if classes >= 50 else picture.width < 700
    assert picture.mode == "RGB" and wide
    dark = np.asarray(picture.convert("L")).astype(int)
    dark = dark[
        -17 - (picture.height // 4) :, :
    ]  # the lowest rows: what is dark in them lies at their right end
    assert dark[:, -17 - picture.width // 4 :].min() < 60
    if classes > 50:
        assert dark[:, : picture.width // 2].min() > 200
    with pytest.raises(ValueError, match="square"):
        confusion_picture(confusion, ["a"] * (classes + 1))
