"""Trimming keeps the tokenisation of every text whose tokens all stay, for every kind of tokenizer."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archtool.data.scored_bpe import read_scored_bpe
from archtool.errors import InputError
from archtool.transforms.vocabulary import corpus as corpora
from archtool.transforms.vocabulary.merges import merged, way
from archtool.transforms.vocabulary.order import for_coverage, for_frequency, keep_order
from archtool.transforms.vocabulary.pieces import pieces_of_json, pieces_of_scored
from archtool.transforms.vocabulary.rewrite import (
    named_ids,
    trimmed_config,
    trimmed_json,
    trimmed_merges,
    trimmed_scored,
)
from tests.transforms.tiny_tokenizers import KINDS, TEXTS, byte_bpe, llama_bpe, scored_file, unigram

WORDS = sorted({word for text in TEXTS for word in text.split()} | {"theth", "catdog", "wor", "ë", "日本", "zz", ","})
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


def tiktoken_like():
    """As files made of tiktoken's have it: whole words first, and every way to split a token among the merges."""
    from tokenizers import Tokenizer

    made, settings_ = byte_bpe()
    state = json.loads(made.to_str())
    ids = state["model"]["vocab"]
    splits = [(t[:i], t[i:]) for t in sorted(ids, key=ids.get) for i in range(1, len(t))]
    state["model"]["merges"] = [list(pair) for pair in splits if pair[0] in ids and pair[1] in ids]
    state["model"]["ignore_merges"] = True
    return Tokenizer.from_str(json.dumps(state)), settings_


MAKERS = {name: make for name, (make, _) in KINDS.items()} | {"tiktoken_like": tiktoken_like}
STATES = {name: json.loads(make()[0].to_str()) for name, make in MAKERS.items()}


def opened(state):
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(state))


def trimmed(state, order, n):
    kept = sorted(order[:n])
    new = {i: place for place, i in enumerate(kept)}
    return opened(trimmed_json(state, new)), new


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=40, deadline=None)
@given(corpus=st.lists(SENTENCES, min_size=1, max_size=6), text=SENTENCES, share=st.floats(0, 1))
def test_texts_whose_tokens_stay_are_cut_as_before(kind, corpus, text, share):
    state, whole = STATES[kind], opened(STATES[kind])
    pieces = pieces_of_json(state)
    counts = Counter(i for row in whole.encode_batch(corpus) for i in row.ids)
    order, least = keep_order(pieces, counts, ())
    assert sorted(order) == sorted(pieces.tokens)
    small, new = trimmed(state, order, least + round(share * (len(order) - least)))
    assert small.get_vocab_size() == len(new)
    for said in (text, *corpus):
        ids = whole.encode(said).ids
        if all(i in new for i in ids):
            assert [new[i] for i in ids] == small.encode(said).ids
            assert whole.decode(ids) == small.decode(small.encode(said).ids)
        small.encode(said)  # whatever is left, every text still has tokens


def test_frequency_alone_would_lose_tokens():
    """The control: without the tokens on the way, a byte-pair tokenizer cannot make what it keeps."""
    state, whole = STATES["byte_bpe"], opened(STATES["byte_bpe"])
    pieces = pieces_of_json(state)
    ids = whole.encode("the weather").ids
    new = {i: place for place, i in enumerate(sorted({*pieces.fixed, *ids}))}
    assert opened(trimmed_json(state, new)).encode("the weather").ids != [new[i] for i in ids]
    order, least = keep_order(pieces, Counter(ids), (), wanted=ids)
    small, new = trimmed(state, order, least)
    assert small.encode("the weather").ids == [new[i] for i in ids]


@settings(max_examples=30, deadline=None)
@given(corpus=st.lists(SENTENCES, min_size=1, max_size=4), text=SENTENCES, share=st.floats(0, 1))
def test_scored_pairs_are_cut_as_before(tmp_path_factory, corpus, text, share):
    whole = read_scored_bpe(scored_file(tmp_path_factory.mktemp("scored") / "tok.bin"))
    pieces = pieces_of_scored(whole)
    order, least = keep_order(pieces, Counter(i for said in corpus for i in whole.encode(said)), ())
    kept = sorted(order[: least + round(share * (len(order) - least))])
    new = {i: place for place, i in enumerate(kept)}
    file = tmp_path_factory.mktemp("scored") / "small.bin"
    file.write_bytes(trimmed_scored(whole, new))
    small = read_scored_bpe(file)
    assert small.vocabulary_size == len(kept)
    for said in (text, *corpus):
        ids = whole.encode(said)
        if all(i in new for i in ids):
            assert small.encode(said) == [new[i] for i in ids]
        assert small.decode(small.encode(said)) == whole.decode(whole.encode(said))


def test_the_way_to_a_token_is_that_of_its_merges():
    ranks = {("a", "b"): 0.0, ("c", "d"): 1.0, ("ab", "cd"): 2.0, ("b", "c"): 3.0}
    rank = lambda a, b: ranks.get((a, b))  # noqa: E731
    assert way("abcd", list("abcd"), rank) == ["a", "b", "c", "d", "ab", "cd", "abcd"]
    assert way("bcd", list("bcd"), rank) == []  # c and d merge first, b stays alone
    assert merged(list("xababx"), rank) == (["x", "ab", "ab", "x"], ["ab", "ab"])


def test_unknown_text_costs_what_it_did():
    """The worst-scored piece stays, since the cost of unknown characters is counted from it."""
    state = STATES["unigram"]
    worst = min(range(len(state["model"]["vocab"])), key=lambda i: state["model"]["vocab"][i][1])
    assert worst in pieces_of_json(state).fixed


def test_fixed_tokens_are_the_special_ones_bytes_and_those_around_a_text():
    words = pieces_of_json(STATES["word_piece"])
    assert [words.tokens[i] for i in sorted(words.fixed)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(pieces_of_json(STATES["byte_bpe"]).fixed) == 257
    assert len(pieces_of_json(STATES["llama_bpe"]).fixed) == 259
    assert llama_bpe()[0].encode("日").ids != [] and unigram()[0].get_vocab_size() == len(
        STATES["unigram"]["model"]["vocab"]
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"type": "Strange"}, "Strange"),
        ({"dropout": 0.1}, "dropout"),
        ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
    ],
)
def test_kinds_that_cannot_be_trimmed_exactly_are_refused_by_name(change, named):
    state = STATES["byte_bpe"]
    with pytest.raises(InputError, match=named):
        pieces_of_json({**state, "model": {**state["model"], **change}})


def test_limits_cut_one_order():
    counts = Counter({5: 10, 6: 5, 7: 5, 8: 1})
    order = [0, 5, 6, 7, 8, 9]
    assert [for_frequency(order, counts, n) for n in (1, 5, 6, 11)] == [5, 4, 2, 0]
    assert [for_coverage(order, counts, s) for s in (10 / 21, 0.5, 20 / 21, 1.0)] == [2, 3, 4, 5]


def test_ids_are_renamed_wherever_a_configuration_has_them():
    new = {0: 0, 3: 1, 5: 2}
    config = {
        "eos_token_id": [3, 5], "pad_token_id": 0, "bos_token_id": 999, "vocab_size": 6, "suppress_tokens": [1, 3],
        "forced_decoder_ids": [[1, 5]], "bad_words_ids": [[3, 1], [5]], "sequence_bias": [[[3], -1.0], [[1], 2.0]],
        "archtool": {"config": {"decoder_start_token_id": 3}}, "tie": True, "sep_token_id": None,
    }  # fmt: skip
    assert named_ids(config) == {
        3: "decoder_start_token_id", 5: "forced_decoder_ids", 0: "pad_token_id", 999: "bos_token_id"
    }  # fmt: skip
    assert trimmed_config(config, new, 6) == {
        "eos_token_id": [1, 2], "pad_token_id": 0, "bos_token_id": 999, "vocab_size": 6, "suppress_tokens": [1],
        "forced_decoder_ids": [[1, 2]], "bad_words_ids": [[2]], "sequence_bias": [[[1], -1.0]],
        "archtool": {"config": {"decoder_start_token_id": 1}}, "tie": True, "sep_token_id": None,
    }  # fmt: skip


def test_merges_keep_their_head_and_lose_what_is_gone():
    text = "#version: 0.2\na b\nc d\n# #\n"
    assert trimmed_merges(text, {"a": 0, "b": 1, "ab": 2, "c": 3, "d": 4}) == "#version: 0.2\na b\n"
    assert trimmed_merges(text, {"#": 0, "##": 1}) == "#version: 0.2\n# #\n"


def test_running_text_is_cut_where_tokenizers_cut():
    text = "one two\nthree\n\nfour\n five\nsix" * 3
    found = corpora.blocks(text, 10)
    assert "".join(found) == text and len(found) > 2
    whole = opened(STATES["byte_bpe"])
    assert [i for block in found for i in whole.encode(block).ids] == whole.encode(text).ids
