import json

import numpy as np
import onnx
import pytest
import torch
from small_models import ImageModel, TextModel, make_pixel_inputs, make_text_inputs
from torch import nn

from archtool.errors import InputError, ResourceError, UsageError
from archtool.export.onnx import OPSET, default_dynamic, export_onnx
from archtool.measure.runtimes import get_runtime


def _run(path, inputs):
    session = get_runtime("onnxruntime").prepare(path, inputs, threads=1)
    return session.run(inputs)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    model = TextModel()
    inputs = make_text_inputs(1, 6)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return model, export_onnx(model, inputs, path, dynamic=default_dynamic(inputs))


@pytest.mark.parametrize("shape", [(1, 6), (3, 11), (2, 1)])
def test_text_graph_equals_torch_on_shapes_it_was_not_exported_with(text, shape):
    model, path = text
    inputs = make_text_inputs(*shape)
    with torch.inference_mode():
        expected = model.eval()(**inputs)
    actual = _run(path, inputs)
    assert list(actual) == ["hidden", "pooled"]
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value.numpy(), atol=1e-5)


def test_graph_records_order_opset_and_dynamic_axes(text):
    graph = onnx.load(text[1])
    metadata = {item.key: json.loads(item.value) for item in graph.metadata_props if item.key.startswith("archtool")}
    assert metadata == {
        "archtool.inputs": ["input_ids", "attention_mask"],
        "archtool.outputs": ["hidden", "pooled"],
    }
    assert [(item.domain, item.version) for item in graph.opset_import if not item.domain] == [("", OPSET)]
    dims = graph.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param for dim in dims] == ["batch", "length"]


def test_export_puts_training_modes_back_and_is_silent(tmp_path, capfd):
    model = ImageModel()
    model.block.eval()
    inputs = make_pixel_inputs(1)
    path = export_onnx(model, inputs, tmp_path / "m.onnx", dynamic=default_dynamic(inputs))
    assert model.training and not model.block.training and not model.block.up.training
    assert capfd.readouterr() == ("", "")
    with torch.inference_mode():
        expected = model.eval()(**make_pixel_inputs(3))["logits"]
    np.testing.assert_allclose(_run(path, make_pixel_inputs(3))["logits"], expected.numpy(), atol=1e-5)


def test_weights_above_the_limit_go_to_a_file_beside(tmp_path, monkeypatch):
    monkeypatch.setattr("archtool.export.onnx.EXTERNAL_DATA_BYTES", 1000)
    inputs = make_pixel_inputs(2)
    path = export_onnx(ImageModel(), inputs, tmp_path / "m.onnx", dynamic=default_dynamic(inputs))
    assert (tmp_path / "m.onnx.data").stat().st_size > 1000
    assert _run(path, inputs)["logits"].shape == (2, 5)


class FixedLength(nn.Module):
    def forward(self, series):
        return {"forecast": series + torch.arange(series.shape[1] if series.shape[1] == 4 else 0)[None, :, None]}


class ListModel(nn.Module):
    def forward(self, series):
        return [series]


def test_refusals(tmp_path):
    series = {"series": torch.ones(2, 4, 3)}
    with pytest.raises(InputError, match=r"cannot be written as ONNX|fixes the axis"):
        export_onnx(FixedLength(), series, tmp_path / "a.onnx", dynamic=default_dynamic(series))
    with pytest.raises(InputError, match="returns list, not a dict"):
        export_onnx(ListModel(), series, tmp_path / "a.onnx", dynamic={})
    with pytest.raises(UsageError, match="pixels"):
        export_onnx(ListModel(), series, tmp_path / "a.onnx", dynamic={"pixels": {0: "batch"}})
    with pytest.raises(ResourceError, match="cannot be written"):
        inputs = make_pixel_inputs(2)
        export_onnx(ImageModel(), inputs, tmp_path / "none" / "a.onnx", dynamic={})
