import pytest
import torch

from archtool.errors import InputError, UsageError
from archtool.export.dialects import DIALECTS, dialect
from archtool.export.model import export_model
from archtool.export.reference import reference_inputs
from archtool.export.snippets import limits, load_snippet
from archtool.model.load import load
from tests.export.models import MODELS, edited, keep, made


@pytest.mark.parametrize("name", ["llama", "bert", "bert-class", "vit", "patchtst", "patchtst-class"])
@pytest.mark.parametrize("how", ["stock", "remote"])
def test_the_snippet_runs_as_it_stands(name, how, tmp_path):
    checkpoint = load(made(name, tmp_path / "in"))
    export_model(checkpoint, tmp_path / "out", how)
    inputs = reference_inputs(checkpoint.architecture)
    space = {"inputs": inputs}
    exec(load_snippet(how, checkpoint.architecture, str(tmp_path / "out")), space)
    expected = checkpoint.module()(**inputs)
    wanted = expected.get("logits", expected.get("forecast", expected["hidden"]))
    real = inputs["attention_mask"].bool() if "attention_mask" in inputs and wanted.dim() == 3 else slice(None)
    assert torch.allclose(space["output"][real], wanted[real], atol=1e-5)


def test_every_dialect_states_its_limits():
    assert all(isinstance(limits(name), tuple) for name in (*DIALECTS, "onnx"))
    assert any("trust_remote_code" in line for line in limits("remote"))
    assert "zeros" in limits("padded")[0]


def test_an_unknown_dialect_is_a_usage_error():
    with pytest.raises(UsageError, match="gguf") as error:
        dialect("gguf")
    assert error.value.exit_code == 2


@pytest.mark.parametrize("name", sorted(MODELS))
def test_reference_inputs_are_valid_and_repeatable(name, tmp_path):
    arch = load(made(name, tmp_path / "in")).architecture
    once, again, other = (reference_inputs(arch, seed) for seed in (0, 0, 1))
    assert all(torch.equal(once[k], again[k]) for k in once)
    assert any(not torch.equal(once[k], other[k]) for k in once)
    if "input_ids" in once:
        assert int(once["input_ids"].min()) >= 0 and int(once["input_ids"].max()) < 61
        assert once["attention_mask"].sum(dim=1).tolist() == [12, 8]


def test_reference_inputs_keep_the_padding_id_for_padding(tmp_path):
    inputs = reference_inputs(load(made("roberta", tmp_path / "in")).architecture)
    assert torch.equal(inputs["input_ids"] == 1, inputs["attention_mask"] == 0)


def test_an_export_appears_whole_or_not_at_all(tmp_path):
    checkpoint = load(made("bert", tmp_path / "in"))
    checkpoint = edited(checkpoint, keep("b0.ffn.hidden", range(8)))
    from dataclasses import replace

    from archtool.model.lazy import Held

    bad = replace(checkpoint, weights={**checkpoint.weights, "b1.attn.q.bias": Held(torch.full((48,), float("nan")))})
    with pytest.raises(InputError, match=r"query\.bias"):
        export_model(bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]
