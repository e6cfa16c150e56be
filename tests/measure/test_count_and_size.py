import onnx
import pytest
import torch
from small_models import TextModel, make_pixel_inputs, make_text_inputs
from torch import nn

from archtool.errors import InputError
from archtool.measure.count import count_flops, count_macs, count_parameters
from archtool.measure.size import measure_size


def test_counts_equal_hand_arithmetic_attention_included():
    width, ffn, length = 16, 32, 7
    inputs, model = make_text_inputs(2, length), TextModel(blocks=1).eval()
    linears = 4 * width * width + 2 * width * ffn
    macs = 2 * length * (linears + 2 * length * width)
    assert count_macs(model, inputs) == macs and count_flops(model, inputs) == 2 * macs
    biases = 4 * width + ffn + width
    assert count_parameters(model) == (50 + 64) * width + linears + biases + 3 * 2 * width


def test_shared_block_counts_parameters_once_and_macs_each_call():
    layer = nn.Linear(4, 4, bias=False)
    assert count_parameters(nn.Sequential(layer, layer)) == 16

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, series):
            return {"hidden": self.layer(self.layer(series))}

    assert count_macs(Twice(), {"series": torch.ones(1, 3, 4)}) == 2 * 3 * 16


def test_size_is_to_the_byte_and_lists_sidecars_apart(tmp_path):
    files = {"model-00001-of-00002.safetensors": 10, "model-00002-of-00002.safetensors": 7}
    files |= {
        "model.safetensors.index.json": 5,
        "config.json": 3,
        "1_Pooling/config.json": 2,
        "optimizer.pt": 9,
    }
    for name, size in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    size = measure_size(tmp_path)
    assert (size.size_bytes, size.sidecar_bytes) == (22, 14)
    assert set(size.sidecars) == {"config.json", "1_Pooling/config.json", "optimizer.pt"}
    with pytest.raises(InputError, match="no weight file"):
        measure_size(tmp_path / "1_Pooling")
    with pytest.raises(InputError, match="does not exist"):
        measure_size(tmp_path / "nothing")


def _save_graph(path, location):
    weight = onnx.numpy_helper.from_array(make_pixel_inputs(1)["pixel_values"].numpy(), "w")
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    end = onnx.helper.make_tensor_value_info("y", 1, [1, 3, 16, 16])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [end], [weight]))
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)


def test_onnx_external_data_counts_under_any_name(tmp_path):
    _save_graph(tmp_path / "g.onnx", "weights.raw")
    raw = 3 * 16 * 16 * 4
    graph = (tmp_path / "g.onnx").stat().st_size
    assert measure_size(tmp_path).weights == {"g.onnx": graph, "weights.raw": raw}
    assert measure_size(tmp_path / "g.onnx").size_bytes == graph + raw
    (tmp_path / "weights.raw").unlink()
    with pytest.raises(InputError, match=r"weights\.raw, which is not there"):
        measure_size(tmp_path)
