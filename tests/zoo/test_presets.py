"""Published architectures: their parameters are those that were published; `archtool build` writes them."""

import json

import pytest
import torch

import archtool
from archtool.cli import main
from archtool.config.preset import architecture, read_preset, shipped_presets
from archtool.config.stated import interval
from archtool.errors import RecipeError
from archtool.ir.codec import from_json, to_json
from archtool.ir.validate import validate
from archtool.model.load import load
from archtool.operators.registry import operator_class

PUBLISHED = [name for name in sorted(shipped_presets()) if read_preset(name)[0].states]
TINY = {"zoo": "cct", "config": dict(image_size=8, depth=1, heads=2, mlp_ratio=1, width=8, kernel_size=3,
                                     conv_layers=1, num_labels=3)}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_that_were_published(name):
    preset, document = read_preset(name)
    arch, config = architecture(preset, document)
    validate(arch)
    assert from_json(type(arch), to_json(arch), operator_class) == arch
    assert config["model_type"] and preset.states.source


def test_every_builder_has_a_preset():
    from archtool.builtins import ZOO

    assert set(ZOO) <= {read_preset(name)[0].zoo for name in shipped_presets()}


def test_another_number_than_stated_is_an_error_at_its_place(tmp_path):
    file = tmp_path / "a.yaml"
    text = shipped_presets()["cct-2-3x2-cifar10"].read_text()
    file.write_text(text.replace("parameters: 283723", "parameters: 0.282M"))
    with pytest.raises(RecipeError, match=r"283,723, but .* states 0.282M") as caught:
        architecture(*read_preset(str(file)))
    assert text.splitlines()[caught.value.where.line - 1].strip().startswith("parameters:")
    assert architecture(*read_preset(str(file), ["depth=3"]))


def test_rounded_numbers_hold_within_a_unit_of_their_last_digit():
    assert interval(12) == (12, 12)
    assert interval("3.76M") == (3_750_001, 3_769_999)
    assert interval("2G") == (1_000_000_001, 2_999_999_999)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": "two"}, "depth"),
        ({"deph": 1}, "deph"),
        ({"width": 9}, "multiple"),
        ({"width": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    preset, document = read_preset({**TINY, "config": TINY["config"] | changes})
    with pytest.raises(RecipeError, match=words):
        architecture(preset, document)


def test_build_writes_what_it_shows(tmp_path, capsys):
    def call(*argv):
        code = main.run(["build", *map(str, argv), "--json"])
        return code, json.loads(capsys.readouterr().out or "null")

    sets = [word for item in ("depth=1", "num_labels=3") for word in ("--set", item)]
    code, dry = call("cct-2-3x2-cifar10", "--dry-run", *sets)
    assert code == 0 and dry["folder"] is None and dry["states"] is None
    assert [row["operator"] for row in dry["layers"]][:2] == ["stem.conv", "mix.pool"]
    code, made = call("cct-2-3x2-cifar10", "--out", tmp_path / "m", "--seed", 3, *sets)
    reread = load(tmp_path / "m")
    assert code == 0 and made["parameters"] == dry["parameters"] == sum(
        p.numel() for p in reread.module().parameters()
    )  # fmt: skip
    same = archtool.build("cct-2-3x2-cifar10", seed=3, settings={"depth": 1, "num_labels": 3})
    image = {"pixel_values": torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
    with torch.no_grad():
        assert torch.equal(reread.module()(**image)["logits"], same.module()(**image)["logits"])
    assert len(json.loads((tmp_path / "m/config.json").read_text())["id2label"]) == 3
    assert call("cct-2-3x2-cifar10")[0] == 2 and call("cct-2-3x2-cifar10", "--out", tmp_path / "m")[0] == 2
    assert call("cct-2-3x2", "--dry-run")[0] == 3
    code, rows = call()
    assert code == 0 and {row["name"] for row in rows} == set(shipped_presets())
