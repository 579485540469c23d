"""GLIDE's tokenizer: the original's ids, any Unicode, and where a text is cut."""

import gzip
import json

import pytest
from conftest import FULL_GOLDENS, GOLDENS
from hypothesis import example, given
from hypothesis import strategies as st
from maquette.diffusion import GlideTokenizer
from tiny_models import tiny_tokenizer

GPT2 = FULL_GOLDENS / "tokenizers"
CAPTIONS = ["a small red chair", "a photo of a shiny blue car", "a green ball on top of a table"] * 5
MINI = tiny_tokenizer(CAPTIONS)

any_text = st.text(st.characters(exclude_categories=()))  # halves of surrogate pairs too


@pytest.mark.skipif(not GPT2.is_dir(), reason=f"GPT-2's vocabulary is not committed, and not at {GPT2}")
def test_gpt2_ids_are_the_originals():
    tokenizer = GlideTokenizer.from_files(GPT2 / "gpt2_encoder.json.gz", GPT2 / "gpt2_vocab.bpe.gz")
    assert tokenizer.vocab_size == 50257
    for record in json.loads((GOLDENS / "tokenizers" / "texts.json").read_text()):
        assert tokenizer.encode(record["text"]) == record["glide"]
        tokens, mask = tokenizer.with_mask([record["text"]], 16)
        assert [tokens[0].tolist(), mask[0].tolist()] == record["glide_padded_16"]


@given(any_text, st.integers(0, 20))
@example("<|endoftext|>", 16)
@example("\udcff", 4)
def test_any_text_is_legal(text, context_length):
    ids = MINI.encode(text)
    assert all(0 <= i < MINI.padding_id for i in ids)
    tokens, mask = MINI.with_mask(["", text], context_length)
    kept = min(len(ids), context_length)
    assert tokens[1].tolist() == ids[:kept] + [MINI.padding_id] * (context_length - kept)
    assert mask.sum(1).tolist() == [0, kept]


@given(st.lists(st.text(min_size=1).filter(lambda w: not any(c.isspace() for c in w)), max_size=8))
def test_truncation_names_the_first_word_that_is_cut(words):
    text = " ".join(words)
    length = len(MINI.encode(text))
    assert MINI.truncated_at(text, length) is None
    if length:
        assert MINI.truncated_at(text, 0) == words[0].lower()
        assert MINI.truncated_at(text, length - 1) == words[-1].lower()


def test_a_saved_tokenizer_reads_back(tmp_path):
    assert len(MINI.encode("A small RED chair")) == 4
    assert len(MINI.encode("".join(map(chr, range(0x500))))) > 256
    MINI.save(tmp_path / "tokenizer.json")
    again = GlideTokenizer.from_file(tmp_path / "tokenizer.json")
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]
    assert again.padding_id == MINI.padding_id
    assert again.encode("un café ☕ <|endoftext|>") == MINI.encode("un café ☕ <|endoftext|>")


def test_a_bad_file_is_one_clear_sentence(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": 3}')
    with pytest.raises(Exception, match="is not a tokenizer"):
        GlideTokenizer.from_file(path)
    with pytest.raises(ValueError, match="lacks 256 of the 256 bytes"):
        GlideTokenizer.from_files(path, path)
    path.write_text('{"model": {}}')
    with pytest.raises(TypeError, match="are not GPT-2's"):
        GlideTokenizer.from_files(path, path)
    path.write_bytes(gzip.compress(b"{}" * 99)[:-9])
    with pytest.raises(EOFError, match="is damaged"):
        GlideTokenizer.from_file(path)
    with pytest.raises(FileNotFoundError):
        GlideTokenizer.from_file(tmp_path / "none.json")
