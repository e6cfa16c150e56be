"""Metrics against values by hand and against scipy and scikit-learn."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluate_models import Bigram, Fixed, WordEmbedding, numbered, sentences
from scipy import stats
from sklearn import metrics as sklearn_metrics

from archtool.data import DataSpec, TokenPreprocess, load_data
from archtool.errors import InputError, UsageError
from archtool.evaluate import Pooling, evaluate
from archtool.evaluate.statistics import edit_distance, f1_score, pearson, spearman

torch.set_num_threads(1)
RANDOM = np.random.default_rng(0)


def test_classification_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.25, 0.25, 0.5], [0.1, 0.8, 0.1]]))
    data = numbered(4, "image-classification", labels=[0, 1, 2, 2])
    result = evaluate(Fixed(logits=logits), "image-classification", data, batch_size=3)
    losses = -np.log([0.5, 0.7, 0.5, 0.1])
    assert result["accuracy"] == 0.75 and result.samples == 4
    assert result["loss"] == pytest.approx(losses.mean(), rel=1e-6)
    assert result.stderr["accuracy"] == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert result.stderr["loss"] == pytest.approx(losses.std(ddof=1) / 2, rel=1e-6)
    assert result.higher_is_better == {"accuracy": True, "loss": False}
    assert result.to_json()["accuracy_stderr"] == result.stderr["accuracy"]
    assert result.better("loss", 0.1, 0.2) and result.better("accuracy", 0.2, 0.1)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_f1_equals_sklearn(classes):
    for _ in range(10):
        labels, predicted = RANDOM.integers(0, classes, (2, 40))
        average = "binary" if classes == 2 else "macro"
        expected = sklearn_metrics.f1_score(labels, predicted, average=average, zero_division=0)
        assert f1_score(labels, predicted, classes) == pytest.approx(expected, abs=1e-12)


def test_text_classification_gives_f1():
    logits = torch.eye(2)[[0, 1, 1, 0]]
    data = numbered(4, "text-classification", labels=[0, 1, 0, 1])
    result = evaluate(Fixed(logits=logits), "text-classification", data)
    assert (result["accuracy"], result["f1"]) == (0.5, 0.5)


def test_correlations_equal_scipy():
    for _ in range(10):
        a, b = RANDOM.integers(0, 6, 50).astype(float), RANDOM.normal(size=50)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
        assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
    assert math.isnan(spearman(np.ones(4), np.arange(4.0)))


def similarity_case():
    table = torch.from_numpy(RANDOM.normal(size=(10, 6))).float()
    ids = [[1, 2, 3], [4], [5, 6, 7, 8], [9, 1], [2, 2, 9, 3, 4]]
    pairs = [[0, 1], [0, 2], [3, 4], [1, 4], [2, 3], [4, 0]]
    return table, ids, pairs, [1.0, 2.0, 0.5, 4.0, 2.0, 3.0]


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "last"])
def test_similarity_equals_a_naive_loop_and_embeds_each_sentence_once(mode):
    table, ids, pairs, scores = similarity_case()
    model = WordEmbedding(table)
    pooling = Pooling(mode)
    result = evaluate(model, "similarity", sentences(ids, pairs, scores), batch_size=2, pooling=pooling)
    assert sum(rows for rows, _ in model.calls) == len(ids)
    assert [length for _, length in model.calls] == [5, 3, 1]
    reduce = {
        "mean": lambda h: h.mean(0),
        "cls": lambda h: h[0],
        "max": lambda h: h.amax(0),
        "last": lambda h: h[-1],
    }[mode]
    vectors = [reduce(table[row]).double() for row in ids]
    cosine = [float(F.cosine_similarity(vectors[a], vectors[b], dim=0)) for a, b in pairs]
    assert result["spearman"] == pytest.approx(stats.spearmanr(cosine, scores).statistic, abs=1e-9)
    assert result["pearson"] == pytest.approx(stats.pearsonr(cosine, scores).statistic, abs=1e-6)
    assert result.samples == 6 and not result.stderr


def test_constant_similarities_have_no_correlation():
    _, ids, pairs, scores = similarity_case()
    flat = WordEmbedding(torch.ones(10, 3))
    with pytest.raises(InputError, match=r"model's similarities are all 1: no correlation"):
        evaluate(flat, "similarity", sentences(ids, pairs, scores))
    with pytest.raises(InputError, match="gold scores are all 2"):
        evaluate(WordEmbedding(similarity_case()[0]), "similarity", sentences(ids, pairs, [2.0] * 6))
    agreement = evaluate(flat, "agreement", sentences(ids, pairs, scores), parent=flat)
    assert set(agreement.values) == {"cosine"}


def test_undefined_standard_errors_stay_out_of_json():
    data = numbered(1, "image-classification", labels=[0])
    result = evaluate(Fixed(logits=torch.zeros(1, 2)), "image-classification", data).to_json()
    assert "loss_stderr" not in result and result["accuracy_stderr"] == 0


def test_spearman_bootstrap_is_seeded_and_near_theory():
    count = 300
    vectors = torch.from_numpy(RANDOM.normal(size=(count, 2))).float()
    pairs = [[i, (i + 1) % count] for i in range(count)]
    data = sentences([[i] for i in range(count)], pairs, RANDOM.normal(size=count))
    first, again, other = (
        evaluate(WordEmbedding(vectors), "similarity", data, bootstrap=100, seed=seed).stderr["spearman"]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first == pytest.approx(1 / math.sqrt(count - 1), rel=0.3)  # uncorrelated: s.e. 1/sqrt(n-1)


@pytest.mark.parametrize(("length", "stride"), [(8, 8), (8, 3), (500, 500)])
def test_perplexity_equals_a_naive_loop(tmp_path, length, stride):
    text = "the cat sat on the mat and the dog sat too"
    (tmp_path / "t.txt").write_text(text)
    data = load_data(DataSpec(str(tmp_path / "t.txt"), preprocess=TokenPreprocess("bytes", length, stride)))
    table = torch.from_numpy(RANDOM.normal(size=(256, 256))).float()
    result = evaluate(Bigram(table), "lm", data, batch_size=3)
    ids = list(text.encode())
    naive = [-float(torch.log_softmax(table[a].double(), -1)[b]) for a, b in itertools.pairwise(ids)]
    assert result["tokens"] == len(ids) - 1
    assert result["loss"] == pytest.approx(np.mean(naive), rel=1e-6)
    assert result["perplexity"] == pytest.approx(math.exp(np.mean(naive)), rel=1e-5)
    assert result.stderr["loss"] == pytest.approx(stats.sem(naive), rel=1e-5)
    assert "tokens" not in result.higher_is_better


def test_forecast_by_hand():
    future = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    forecast = torch.from_numpy(future).clone()
    forecast[0, 0, 0] += 2
    forecast[1, 2, 1] -= 4
    data = numbered(2, "forecast", future=future)
    result = evaluate(Fixed(forecast=forecast), "forecast", data)
    assert (result["mse"], result["mae"]) == (pytest.approx(20 / 12), pytest.approx(6 / 12))


def test_agreement_of_classifiers_by_hand():
    p, q = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([[0.25, 0.75], [0.9, 0.1]])
    data = numbered(2, "image-classification")
    result = evaluate(Fixed(logits=q.log()), "agreement", data, parent=Fixed(logits=p.log()))
    kl = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert result["kl"] == pytest.approx(kl / 2, abs=1e-6)
    assert result["top1_match"] == 0.5
    same = evaluate(Fixed(logits=p), "agreement", data, parent=Fixed(logits=p + 3))
    assert same["kl"] == pytest.approx(0, abs=1e-9) and same["top1_match"] == 1


def test_agreement_of_maps_counts_cells():
    p_BNHW = torch.tensor([[0.5, 0.9, 0.2], [0.5, 0.1, 0.8]])[None, :, None]
    q_BNHW = torch.tensor([[0.25, 0.9, 0.8], [0.75, 0.1, 0.2]])[None, :, None]
    data = numbered(1, "image-classification")
    result = evaluate(Fixed(logits=q_BNHW.log()), "agreement", data, parent=Fixed(logits=p_BNHW.log()))
    kl = 0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0.2 * math.log(1 / 4) + 0.8 * math.log(4)
    assert result["kl"] == pytest.approx(sum(kl) / 3, abs=1e-6)
    assert result["top1_match"] == pytest.approx(1 / 3)


def test_agreement_of_language_models_counts_scored_tokens(tmp_path):
    (tmp_path / "t.txt").write_text("abcabcaab")
    data = load_data(DataSpec(str(tmp_path / "t.txt"), preprocess=TokenPreprocess("bytes", 4, 4)))
    ours, theirs = (torch.from_numpy(RANDOM.normal(size=(256, 256))) for _ in range(2))
    result = evaluate(Bigram(ours), "agreement", data, parent=Bigram(theirs), batch_size=2)
    ids = list(b"abcabcaa")
    naive = F.kl_div(ours[ids].log_softmax(-1), theirs[ids].softmax(-1), reduction="batchmean")
    assert result["kl"] == pytest.approx(float(naive), rel=1e-9)
    match = (ours[ids].argmax(-1) == theirs[ids].argmax(-1)).double().mean()
    assert result["top1_match"] == pytest.approx(float(match))


def test_agreement_of_embeddings_and_forecasts():
    table, ids, pairs, scores = similarity_case()
    data = sentences(ids, pairs, scores)
    same = evaluate(WordEmbedding(table), "agreement", data, parent=WordEmbedding(2 * table))
    assert same["cosine"] == pytest.approx(1) and same["spearman"] == pytest.approx(1)
    opposite = evaluate(WordEmbedding(-table), "agreement", data, parent=WordEmbedding(table))
    assert opposite["cosine"] == pytest.approx(-1) and opposite["spearman"] == pytest.approx(1)
    narrow = evaluate(WordEmbedding(table[:, :3]), "agreement", data, parent=WordEmbedding(table))
    assert set(narrow.values) == {"spearman"} and narrow["spearman"] < 1
    made = numbered(3, "forecast")
    result = evaluate(
        Fixed(forecast=torch.ones(3, 2, 2)), "agreement", made, parent=Fixed(forecast=torch.zeros(3, 2, 2))
    )
    assert (result["mse"], result["mae"]) == (1, 1)


def test_numbers_that_are_not_finite_say_where():
    logits = torch.zeros(5, 2)
    logits[3, 0] = float("nan")
    data = numbered(5, "image-classification", labels=[0] * 5)
    with pytest.raises(InputError, match=r"loss is not finite at example 3 of the data \(1 of 2"):
        evaluate(Fixed(logits=logits), "image-classification", data, batch_size=2)
    table, ids, pairs, scores = similarity_case()
    table[8] = float("inf")
    with pytest.raises(InputError, match="embedding is not finite at example 2"):
        evaluate(WordEmbedding(table), "similarity", sentences(ids, pairs, scores))
    forecast = torch.full((5, 1, 1), float("inf"))
    made = numbered(5, "forecast", future=np.zeros((5, 1, 1), dtype=np.float32))
    with pytest.raises(InputError, match="forecast is not finite at example 0"):
        evaluate(Fixed(forecast=forecast), "forecast", made)


def test_lm_loss_that_is_not_finite(tmp_path):
    (tmp_path / "t.txt").write_text("aaaab")
    data = load_data(DataSpec(str(tmp_path / "t.txt"), preprocess=TokenPreprocess("bytes", 2, 2)))
    table = torch.zeros(256, 256)
    table[97, 98] = float("nan")
    with pytest.raises(InputError, match="loss is not finite at example 0"):
        evaluate(Bigram(table), "lm", data)


def test_what_does_not_fit_together():
    data = numbered(2, "image-classification", labels=[0, 3])
    with pytest.raises(InputError, match="label 3 in the data, and the model has 2 classes"):
        evaluate(Fixed(logits=torch.zeros(2, 2)), "image-classification", data)
    with pytest.raises(InputError, match="gives hidden; image-classification needs logits"):
        evaluate(Fixed(hidden=torch.zeros(2, 2)), "image-classification", data)
    with pytest.raises(UsageError, match="cannot be evaluated on image-classification data"):
        evaluate(Fixed(), "lm", data)
    with pytest.raises(UsageError, match="agreement needs a parent"):
        evaluate(Fixed(), "agreement", data)
    with pytest.raises(UsageError) as caught:
        evaluate(Fixed(), "similarty", data)
    assert "did you mean similarity?" in caught.value.hint
    with pytest.raises(InputError, match="has no labels"):
        made = numbered(2, "image-classification")
        evaluate(Fixed(logits=torch.zeros(2, 2)), "image-classification", made)
    made = numbered(2, "forecast", future=np.zeros((2, 3, 1), dtype=np.float32))
    with pytest.raises(InputError, match="forecasts"):
        evaluate(Fixed(forecast=torch.zeros(2, 2, 1)), "forecast", made)
    with pytest.raises(InputError, match="differ in shape"):
        evaluate(Fixed(logits=torch.zeros(2, 2)), "agreement", data, parent=Fixed(logits=torch.zeros(2, 3)))


def test_mode_is_restored_and_no_gradient_recorded():
    class Spy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(1, 2)
            self.seen = []

        def forward(self, pixel_values):
            logits = self.inner(pixel_values.flatten(1))
            self.seen.append((self.training, logits.requires_grad))
            return {"logits": logits}

    model = Spy()
    model.train()
    model.inner.eval()
    evaluate(model, "image-classification", numbered(2, "image-classification", labels=[0, 1]))
    assert model.seen == [(False, False)]
    assert model.training and not model.inner.training


def test_progress_counts_examples():
    from contextlib import contextmanager

    class Recorder:
        done = 0.0
        total = None

        @contextmanager
        def phase(self, name, total=None):
            self.total = total
            yield self

        def advance(self, n=1, note=""):
            self.done += n

    recorder = Recorder()
    data = numbered(5, "image-classification", labels=[0] * 5)
    evaluate(Fixed(logits=torch.zeros(5, 2)), "image-classification", data, batch_size=2, progress=recorder)
    assert recorder.done == recorder.total == 5


def test_edit_distance_by_hand():
    cases = (
        ("", "", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("ab", "ba", 2),
        ("aba", "aba", 0),
    )
    assert [edit_distance(a, b) for a, b, _ in cases] == [n for _, _, n in cases]
