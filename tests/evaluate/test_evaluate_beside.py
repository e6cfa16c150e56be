"""Evaluations with a second model: what a draft is worth, and retrieval in another model's index."""

import itertools

import numpy as np
import pytest
import torch
from evaluate_models import WordEmbedding, numbered, sentences

from archtool.data import DataSpec, TokenPreprocess, load_data
from archtool.errors import InputError, UsageError
from archtool.evaluate import TaskOptions, embeddings, evaluate
from archtool.evaluate.tasks.retrieval import ranks
from archtool.evaluate.tasks.speculation import expected_tokens
from archtool.model.preset import built

torch.set_num_threads(1)
TEXT = "to be, or not to be: that is the question. whether it is nobler in the mind to suffer\n" * 4


def gpt2(seed, **changes):
    config = {"architectures": ["GPT2LMHeadModel"], "vocab_size": 256, "n_positions": 64, "n_embd": 16, "n_layer": 2,
              "n_head": 2, "initializer_range": 0.3}  # fmt: skip
    return built("gpt2", config | changes, seed).module()


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    preprocess = TokenPreprocess(tokenizer="bytes", length=24)
    return load_data(DataSpec(str(tmp_path / "text.txt"), task="lm", preprocess=preprocess))


def test_acceptance_by_hand(text):
    model, draft = gpt2(0), gpt2(1)
    found = evaluate(model, "speculation", text, parent=draft, batch_size=3, options=TaskOptions(draft_tokens=2))
    chances, same = [], []
    ids, nexts = text.inputs["input_ids"], text.targets["next_ids"]
    with torch.no_grad():
        for row, following in zip(ids.take(text.rows), nexts.take(text.rows), strict=True):
            fed = torch.as_tensor(np.asarray(row))[None]
            p, q = (torch.softmax(part(input_ids=fed)["logits"][0], -1) for part in (model, draft))
            scored = torch.as_tensor(np.asarray(following)) >= 0
            chances += (1 - 0.5 * (p - q).abs().sum(-1))[scored].tolist()
            same += (p.argmax(-1) == q.argmax(-1))[scored].tolist()
    rate = np.mean(chances)
    assert found["acceptance_rate"] == pytest.approx(rate, abs=1e-5)
    assert found.stderr["acceptance_rate"] == pytest.approx(np.std(chances, ddof=1) / len(chances) ** 0.5, rel=1e-3)
    assert found["greedy_match"] == pytest.approx(np.mean(same))
    assert found["tokens_per_call"] == pytest.approx(1 + rate + rate**2, abs=1e-5)
    assert 1 <= found["sampled_tokens_per_call"] <= 3 and 1 <= found["greedy_tokens_per_call"] <= 3


def test_a_model_drafts_perfectly_for_itself(text):
    model = gpt2(0)
    found = evaluate(model, "speculation", text, parent=model)
    assert found["acceptance_rate"] == pytest.approx(1, abs=1e-6) and found["greedy_match"] == 1
    assert found["tokens_per_call"] == pytest.approx(5, abs=1e-5)
    assert found["greedy_tokens_per_call"] == pytest.approx(32 / 7)  # 32 tokens, at most 5 a pass


def test_expected_tokens_are_the_closed_form():
    for rate, count in itertools.product((0.0, 0.3, 0.9), (1, 4)):
        value, slope = expected_tokens(rate, count)
        assert value == pytest.approx((1 - rate ** (count + 1)) / (1 - rate))
        step = 1e-6
        assert slope == pytest.approx((expected_tokens(rate + step, count)[0] - value) / step, rel=1e-4)


def test_drafts_that_do_not_fit(text):
    with pytest.raises(UsageError, match="needs a draft"):
        evaluate(gpt2(0), "speculation", text)
    with pytest.raises(InputError, match="differ in shape"):
        evaluate(gpt2(0), "speculation", text, parent=gpt2(0, vocab_size=300))
    with pytest.raises(InputError, match="12 positions"):
        evaluate(gpt2(0), "speculation", text, parent=gpt2(0, n_positions=12))
    with pytest.raises(UsageError, match="cannot be evaluated"):
        evaluate(gpt2(0), "speculation", numbered(2, "image-classification"), parent=gpt2(1))


def test_retrieval_by_hand():
    """Three documents (rows 3, 4, 5); the third query is nearer to another document than to its own."""
    table = torch.tensor([[1.0, 0.1], [0.1, 1.0], [1.0, 0.2], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    data = sentences([[i] for i in range(6)], [(0, 3), (1, 4), (2, 5), (0, 5)], [5, 4, 4.5, 1])
    found = evaluate(WordEmbedding(table), "retrieval", data)
    assert (found["queries"], found["documents"]) == (3, 3)
    assert found["recall@1"] == pytest.approx(2 / 3) and found["recall@10"] == 1
    assert found["mrr"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert found.stderr["recall@1"] == pytest.approx(np.std([1, 1, 0], ddof=1) / 3**0.5)
    strict = evaluate(WordEmbedding(table), "retrieval", data, options=TaskOptions(least_score=5))
    assert (strict["queries"], strict["recall@1"]) == (1, 1.0)


def test_documents_count_once_and_the_query_is_no_document():
    """Both queries have document 2; query 1 is itself a document and would be its own best."""
    table = torch.tensor([[1.0, 0.2], [1.0, 0.1], [1.0, 0.0], [0.0, 1.0]])
    data = sentences([[i] for i in range(4)], [(0, 2), (1, 2), (3, 1)], [5, 5, 0])
    found = evaluate(WordEmbedding(table), "retrieval", data)
    assert found["documents"] == 2 and found["queries"] == 2
    assert found["recall@1"] == 0.5  # row 0 is nearer to document 1


def test_other_true_documents_are_left_out_and_ties_count():
    embedded = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    both = np.asarray([[0, 1], [0, 2]])
    assert ranks(embedded, embedded, both, np.asarray([1, 2, 3])).tolist() == [1, 1]
    assert ranks(torch.ones(4, 2), torch.ones(4, 2), both[:1], np.asarray([1, 2, 3])).tolist() == [3]


def test_another_model_makes_the_index():
    own = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    data = sentences([[i] for i in range(4)], [(0, 2), (1, 3)], [5, 5])
    turned = WordEmbedding(own.flip(1))
    index = embeddings(turned, data)
    assert evaluate(WordEmbedding(own), "retrieval", data)["recall@1"] == 1
    assert evaluate(WordEmbedding(own), "retrieval", data, options=TaskOptions(index_ND=index))["recall@1"] == 0
    assert evaluate(turned, "retrieval", data, options=TaskOptions(index_ND=index))["recall@1"] == 1


def test_retrieval_that_cannot_be():
    data = sentences([[0], [1]], [(0, 1)], [3])
    table = torch.eye(2)
    with pytest.raises(InputError, match=r"score of 4 or more \(the highest is 3\)"):
        evaluate(WordEmbedding(table), "retrieval", data)
    with pytest.raises(InputError, match="differ in shape"):
        options = TaskOptions(index_ND=torch.ones(2, 3), least_score=1)
        evaluate(WordEmbedding(table), "retrieval", data, options=options)
    with pytest.raises(UsageError, match="cannot be evaluated"):
        evaluate(WordEmbedding(table), "retrieval", numbered(2, "image-classification"))
