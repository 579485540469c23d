"""CLIP's tokenizer: the original's ids and lengths, any Unicode, and what does not fit."""

import json
import unicodedata
from pathlib import Path

import pytest
import regex
import torch
from conftest import GOLDENS
from hypothesis import example, given
from hypothesis import strategies as st
from maquette.clip import ClipTokenizer
from open_clip import SimpleTokenizer

OPENAI = ClipTokenizer.openai()
MINI = ClipTokenizer.from_file(Path(__file__).parents[1] / "toybox" / "tokenizer.json")

any_text = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too
# What breaks tokenizers: contractions, entities, special tokens, odd spaces, letters that change when lower-cased.
pieces = "'s 'LL 'ſ don't &amp;lt; &#x1c; <|endoftext|> !<|STARTOFTEXT|> \x1c \u2003 \ufeff \u0345 İ ß ﬁ â€™ 👩\u200d👧"
awkward = st.lists(st.one_of(st.sampled_from(pieces.split(" ")), st.text(max_size=4)), max_size=12)


def test_ids_and_lengths_are_the_originals():
    assert (OPENAI.vocab_size, OPENAI.start_id, OPENAI.end_id) == (49408, 49406, 49407)
    for record in json.loads((GOLDENS / "tokenizers" / "texts.json").read_text()):
        assert OPENAI.encode(record["text"]) == record["clip"]
        tokens, lengths = OPENAI.with_lengths(record["text"], 16, truncate=True)
        assert [tokens[0].tolist(), lengths.item()] == record["glide_clip_padded_16"]


@pytest.fixture(scope="module")
def peer():
    """open_clip's own tokenizer; with OpenAI's names of the special tokens, which it calls otherwise."""
    tokenizer = SimpleTokenizer()
    special = {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    tokenizer.encoder |= special
    tokenizer.cache = {token: token for token in special}
    pattern = tokenizer.pat.pattern.removeprefix("<start_of_text>|<end_of_text>")
    tokenizer.pat = regex.compile(r"<\|startoftext\|>|<\|endoftext\|>" + pattern, regex.IGNORECASE)
    return tokenizer


@given(st.one_of(awkward.map("".join), awkward.map(" ".join)))
def test_ids_are_open_clips(peer, text):
    # Of characters newer than Python's Unicode the two regular-expression libraries may think differently.
    text = "".join(c for c in text if unicodedata.category(c) != "Cn")
    assert OPENAI.encode(text) == peer.encode(text)


@given(any_text, st.integers(2, 20))
@example("<|endoftext|>", 16)
@example("\udcff\ud83d\ude42 &#xd800;", 4)
@example("\x00\x1b[0m", 2)
def test_any_text_is_legal(text, context_length):
    for tokenizer in (OPENAI, MINI):
        ids = tokenizer.encode(text)
        assert all(0 <= i < tokenizer.vocab_size for i in ids)
        start = [tokenizer.start_id] if tokenizer is OPENAI else []
        kept = ids[: context_length - len(start) - 1]
        tokens, lengths = tokenizer.with_lengths(["", text], context_length, truncate=True)
        row = [*start, *kept, tokenizer.end_id]
        assert tokens[1].tolist() == row + [0] * (context_length - len(row))
        assert lengths.tolist() == [len(start) + 1, len(row)]
        assert tokens.dtype == torch.int64


@given(any_text)
def test_letter_case_and_space_do_not_matter(text):
    assert OPENAI.encode(f"\n A  {text}\t") == OPENAI.encode(f"a {text}")


def test_the_end_is_text_in_minis_vocabulary_and_a_token_in_openais():
    assert MINI.end_id not in MINI.encode("<|endoftext|>")
    assert OPENAI.encode("a <|ENDOFTEXT|> b") == [320, 49407, 321]
    assert OPENAI.encode("a!<|endoftext|>") == [320, 0, 27, 347, *OPENAI.encode("endoftext |>")]


def test_a_text_that_does_not_fit_is_an_error_unless_truncated():
    assert OPENAI("a b c", 5).tolist() == [[49406, 320, 321, 322, 49407]]
    with pytest.raises(ValueError, match=r"'a b c d' has 4 tokens, and 3 fit .* truncate=True"):
        OPENAI(["a", "a b c d"], 5)
    assert OPENAI("a b c d", 5, truncate=True).tolist() == [[49406, 320, 321, 322, 49407]]
    assert MINI("a red mug", 4).tolist() == [[*MINI.encode("a red mug"), MINI.end_id]]
    with pytest.raises(ValueError, match=r"has no room"):
        OPENAI("a", 1, truncate=True)
    with pytest.raises(ValueError, match="must be a string, got int"):
        OPENAI([3])
    assert OPENAI([]).shape == (0, 77)


@pytest.mark.parametrize("tokenizer", [OPENAI, MINI])
def test_it_reads_back(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "tokenizer.json")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    again = ClipTokenizer.from_file(tmp_path / "tokenizer.json")
    assert (again.start_id, again.end_id) == (tokenizer.start_id, tokenizer.end_id)
    text = "un café ☕ <|endoftext|> isn't 4"
    assert again.encode(text) == tokenizer.encode(text)


def test_what_is_no_tokenizer_of_clip_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    MINI.save(path)
    path.write_text(path.read_text().replace("<|endoftext|>", "<|other|>"))
    with pytest.raises(ValueError, match=r"highest id, 443, is not <\|endoftext\|>"):
        ClipTokenizer.from_file(path)
    with pytest.raises(FileNotFoundError):
        ClipTokenizer.from_file(tmp_path / "none.json")


def test_the_mask_covers_what_is_read_and_nothing_of_an_empty_text():
    tokens, mask = OPENAI.with_mask(["a dog", "", "word " * 100], 8)
    assert mask.sum(1).tolist() == [4, 0, 8]
    assert (tokens[mask] > 0).all()


def test_the_word_at_which_a_text_is_cut_off_is_named():
    assert OPENAI.truncated_at("a dog", 8) is None
    assert OPENAI.truncated_at("one two Three four", 5) == "four"
