"""Metrics of the user's own, and what metrics know of themselves."""

import pytest
import torch
from evaluate_models import Fixed, numbered

from archtool.errors import InputError, UsageError
from archtool.evaluate import TASKS, Metrics, evaluate

RESULT = Metrics("lm", {"loss": 1.5, "perplexity": 4.48, "tokens": 10.0}, 3, {}, {"loss": False})


def test_metrics_without_a_direction_say_so():
    with pytest.raises(UsageError, match="has no direction"):
        RESULT.better("tokens", 1, 2)


def test_every_registered_task_loads():
    for info in TASKS.values():
        assert callable(info.load())


def run_user(tmp_path, code, name="metric"):
    (tmp_path / "my.py").write_text(code)
    data = numbered(3, "image-classification", labels=[0, 1, 1])
    return evaluate(Fixed(logits=torch.eye(2)[[0, 0, 1]]), f"{tmp_path / 'my.py'}:{name}", data, batch_size=2)


GOOD = """
import torch
def metric(module, batches):
    wrong = sum(int((module(**b.inputs)["logits"].argmax(-1) != b.targets["labels"]).sum()) for b in batches)
    return {"errors": wrong, "share": torch.tensor(wrong / 3)}
metric.higher_is_better = {"errors": False}
"""


def test_a_metric_of_the_users_own(tmp_path):
    result = run_user(tmp_path, GOOD)
    assert result["errors"] == 1 and result["share"] == pytest.approx(1 / 3)
    assert result.samples == 3 and result.higher_is_better == {"errors": False}


def test_a_relative_path_names_the_line_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text("def metric(module, batches):\n    return {}['x']\n")
    with pytest.raises(InputError) as caught:
        evaluate(Fixed(), "my.py:metric", numbered(1, "image-classification"))
    assert caught.value.where.line == 2


@pytest.mark.parametrize(
    ("code", "name", "kind", "says"),
    [
        (GOOD, "metrik", UsageError, "no function 'metrik'"),
        (GOOD, "", UsageError, "names no metric"),
        ("import nonsense_module", "metric", InputError, "line 1: ModuleNotFoundError"),
        ("def metric(:", "metric", InputError, "line 1: SyntaxError"),
        ("def metric(m, b):\n    x = 1\n    return x / 0", "metric", InputError, "line 3: ZeroDivisionError"),
        ("def metric(m, b): return 3", "metric", InputError, "returned int"),
        ("def metric(m, b): return {'a': 'b'}", "metric", InputError, "no number"),
        ("def metric(m, b): return {'a': float('nan')}", "metric", InputError, "NaN"),
    ],
)
def test_what_can_be_wrong_with_it(tmp_path, code, name, kind, says):
    with pytest.raises(kind) as caught:
        run_user(tmp_path, code, name)
    assert says in caught.value.what


def test_missing_file_and_did_you_mean(tmp_path):
    data = numbered(1, "image-classification")
    with pytest.raises(UsageError, match="no such file"):
        evaluate(Fixed(), f"{tmp_path}/none.py:metric", data)
    with pytest.raises(UsageError) as caught:
        run_user(tmp_path, GOOD, "metrics")
    assert "did you mean metric?" in caught.value.hint
