"""A built model is one graph to torch.compile."""

import pytest
import torch

from tests.model.tiny import inputs, tiny


@pytest.mark.parametrize("family", ["llama", "mamba", "vit"])
def test_a_model_traces_as_one_graph(family):
    checkpoint = tiny(family)
    module, feed = checkpoint.module(), inputs(checkpoint)
    compiled = torch.compile(lambda **given: module(**given), dynamic=False, fullgraph=True, backend="eager")
    with torch.no_grad():
        expected, got = module(**feed), compiled(**feed)
    assert all(torch.allclose(got[name], value, atol=1e-5) for name, value in expected.items())
