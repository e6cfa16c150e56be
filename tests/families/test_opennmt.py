"""OpenNMT's names: the published transliteration model gives its published outputs and scores."""

import os
from pathlib import Path

import pytest
import torch

from archtool.checkpoint.store import open_store
from archtool.data.pair_tokenizers import open_pairs
from archtool.data.spec import PairPreprocess
from archtool.errors import InputError
from archtool.families.opennmt import OpenNmt
from archtool.families.registry import family_for
from archtool.model.generate import generate
from archtool.model.load import load
from archtool.run.texts import written
from tests.families.decoder_checks import shapes_of
from tests.families.parity import ours

ROOT = Path(__file__).resolve().parents[2]
SCORES = {
    ("آتزمون", "atzmon"): [-0.106023, -0.065410, -0.056002, -0.447953, -0.230714, -0.092184, -0.063463],
    ("آتشيسون", "achison"): [
        -0.072660, -0.300309, -0.181187, -0.395671, -0.025631, -0.123466, -0.002034, -0.012639,
    ],
}  # fmt: skip
"""What CTranslate2's own tests state for this model: log-probability of each target letter and of the end."""


@pytest.fixture(scope="module")
def folder():
    place = Path(os.environ.get("ARCHTOOL_SHARED", ROOT.parent / "shared")) / "data/aren_transliteration"
    return place if place.is_dir() else pytest.skip(f"{place} is not here (set ARCHTOOL_SHARED)")


def test_the_published_model_writes_the_published_words(folder):
    checkpoint = load(folder)
    assert sum(p.numel() for p in checkpoint.module().parameters()) == 182_731
    assert written(checkpoint, ["آ ت ز م و ن", *(source for source, _ in SCORES)]) == ["atzmon", "atzmon", "achison"]
    pairs = open_pairs(PairPreprocess(), folder)
    given = {"input_ids": torch.tensor([pairs.encode("آتزمون")])}
    begun = torch.tensor([[pairs.start, *pairs.encode_target("ats")[:-1]]])
    ids = generate(checkpoint.module(), begun, 20, stop=pairs.stop, given=given)[0].tolist()
    assert pairs.decode(ids) == "atsumon" and ids[-1] == pairs.stop


def test_the_published_model_gives_the_published_scores(folder):
    module, pairs = load(folder).module(), open_pairs(PairPreprocess(), folder)
    sources, targets = (
        [encode(words[i]) for words in SCORES] for i, encode in enumerate((pairs.encode, pairs.encode_target))
    )
    ids, mask = torch.zeros(2, 7, dtype=torch.int64), torch.zeros(2, 7, dtype=torch.int64)
    for row, source in enumerate(sources):
        ids[row, : len(source)], mask[row, : len(source)] = torch.tensor(source), 1
    begun = torch.tensor([([pairs.start, *target[:-1]] + [0] * 8)[:8] for target in targets])
    with torch.inference_mode():
        logits = module(input_ids=ids, attention_mask=mask, decoder_input_ids=begun)["logits"]
    for row, (target, expected) in enumerate(zip(targets, SCORES.values(), strict=True)):
        found = logits[row, : len(target)].log_softmax(-1).gather(1, torch.tensor(target)[:, None])[:, 0]
        assert found.tolist() == pytest.approx(expected, rel=1e-4, abs=2e-6)


def test_tensors_and_configuration_come_back(folder):
    from safetensors.torch import load_file

    from archtool.checkpoint.folder import read_config

    config, tensors = read_config(folder), load_file(folder / "model.safetensors")
    assert isinstance(family_for(config, {}), OpenNmt)
    _, arch = ours(OpenNmt(), config, tensors)
    assert OpenNmt().write(arch, config) == config
    assert OpenNmt().write(arch.resized({"e3.attn.kv": 5}), config)["spec"] is None
    assert set(open_store(folder).infos) == set(tensors)
    for changes, message in (
        ({"revision": 3}, "revision=3"),
        ({"scalars": {"num_heads": 4}}, "scalars="),
        ({"x": 1}, "x"),
    ):
        with pytest.raises(InputError, match=message):
            OpenNmt().read(config | changes, shapes_of(tensors))
    with pytest.raises(InputError, match="encoder/embeddings/weight"):
        OpenNmt().read(config, {})


def test_another_order_of_heads_is_seen(folder):
    from safetensors.torch import load_file

    from archtool.checkpoint.folder import read_config

    config, tensors = read_config(folder), load_file(folder / "model.safetensors")
    name = "decoder/layer_2/attention/linear_1/weight"
    wrong = tensors | {name: torch.cat((tensors[name][:32].roll(4, 0), tensors[name][32:]))}
    feed = {"input_ids": torch.arange(3, 9)[None], "decoder_input_ids": torch.arange(3, 7)[None]}
    right, other = (ours(OpenNmt(), config, t)[0](**feed)["logits"] for t in (tensors, wrong))
    assert (right - other).abs().max() > 1e-2
