"""What a finished run leaves: a model compared in a fresh process, a report, a card, and one set of numbers."""

import json

import pytest

import archtool
from archtool.cli import main
from archtool.model.save import save
from tests.model.tiny import tiny


@pytest.mark.reload_check
def test_a_run_leaves_a_proven_model_and_its_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parent").mkdir()
    save(tiny("llama"), tmp_path / "parent", native=False)
    result = archtool.prune("parent", out="run", budget="params=0.8x", units=("ffn",), seed=1)
    run = tmp_path / "run"
    (found,) = json.loads((run / "verified.json").read_text())
    assert found["dialect"] == "stock" and found["max_abs_diff"] <= 1e-5
    metrics = json.loads((run / "metrics.json").read_text())
    weights = (run / "model" / "model.safetensors").stat().st_size
    assert metrics["child"]["size_bytes"] == weights == result.metrics["size_bytes"]
    assert metrics["child"]["parameters"] < metrics["parent"]["parameters"]
    assert "equal, fresh process" in (run / "report.html").read_text()
    assert (run / "model" / "README.md").read_text().startswith("---\n")
    assert main.run(["verify", "run"]) == 0 and "transformers" in capsys.readouterr().out
    damage(run / "model" / "model.safetensors")
    assert main.run(["verify", "run"]) == 8


def damage(file):
    """Flip the sign of the last number of the file."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 0x80
    file.write_bytes(data)
