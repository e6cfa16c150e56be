"""Nested models as data: what may be cut, what edits leave of it, and that no folder loses it."""

import json
from dataclasses import replace

import pytest
import torch

from archtool.cli.main import run
from archtool.errors import InputError, UsageError
from archtool.export.model import export_model
from archtool.ir.axes import Selection
from archtool.ir.edit import Drop, Edit, Select, Unshare
from archtool.ir.nesting import Nesting, Submodel, check_nesting, check_submodel, full, uniform
from archtool.model.apply import apply
from archtool.model.inspect import summary
from archtool.model.load import NESTING, load
from archtool.transforms.nesting import depth_order, nesting_of
from archtool.transforms.units import unit_axes
from tests.model.tiny import inputs, tiny

FRACTIONS = (0.25, 0.5, 0.75, 1.0)
FAMILIES = ("vit", "bert", "llama")


def nested(family="llama", kinds=("ffn", "heads", "depth")):
    checkpoint = tiny(family)
    return replace(checkpoint, nesting=nesting_of(checkpoint.architecture, kinds, FRACTIONS))


@pytest.mark.parametrize("family", FAMILIES)
def test_levels_are_fractions_of_every_axis_of_a_kind(family):
    checkpoint = nested(family, ("ffn", "heads", "width", "depth"))
    nesting, size = checkpoint.nesting, checkpoint.architecture.size
    assert list(nesting.sizes) == list(unit_axes(checkpoint.architecture, ("ffn", "heads", "width")))
    assert nesting.sizes["b0.ffn.hidden"] == tuple(int(f * size["b0.ffn.hidden"]) for f in FRACTIONS)
    assert len(nesting.depth) == 2 and nesting.depth[0] == "b1"
    assert full(nesting) == Submodel(tuple((a, size[a]) for a in nesting.sizes))
    assert full(nesting).edit(checkpoint.architecture, "t").decisions == ()
    smallest = uniform(nesting, 0)
    assert smallest.skipped == nesting.depth and dict(smallest.counts)["b2.ffn.hidden"] == size["b2.ffn.hidden"] // 4


def test_axes_with_fewer_levels_go_along_and_sizes_are_multiples():
    nesting = nesting_of(tiny("llama").architecture, ("ffn", "heads"), FRACTIONS, multiple=8)
    assert all(n % 8 == 0 for n in nesting.sizes["b0.ffn.hidden"][:-1])
    made = Nesting((("x", (1, 2)), ("y", (1, 2, 3, 4))))
    assert [dict(uniform(made, i).counts)["x"] for i in range(4)] == [1, 1, 2, 2]
    only_depth = Nesting((), ("b1", "b2"))
    assert [uniform(only_depth, i).skipped for i in range(3)] == [("b1", "b2"), ("b1",), ()]


def test_every_other_block_goes_first():
    checkpoint = tiny("bert")
    assert depth_order(checkpoint.architecture) == ("b1", "b2", "b0")


@pytest.mark.parametrize(
    ("levels", "depth", "named"),
    [
        ([["b9.ffn.hidden", [4, 40]]], [], "b9.ffn.hidden"),
        ([["b0.ffn.hidden", [40, 4]]], [], "not ascending"),
        ([["b0.ffn.hidden", ["4", 40]]], [], "not ascending"),
        ([["b0.ffn.hidden", [4, 400]]], [], "has 40 entries"),
        ([["b0.ffn.hidden", [4, 40]], ["b0.ffn.hidden", [4, 40]]], [], "twice"),
        ([], ["b7"], "b7"),
        ([], ["embed"], "embed"),
        ([], [], "neither"),
        ([["embed.patches.positions", [2, 4]]], [], "patches"),
        ([[3, [4, 40]]], [], "text"),
        (7, [], "list"),
    ],
)
def test_a_damaged_nesting_is_refused_by_name(tmp_path, levels, depth, named):
    export_model(tiny("vit"), tmp_path / "m")
    (tmp_path / "m" / NESTING).write_text(json.dumps({"format": 1, "levels": levels, "depth": depth}))
    with pytest.raises(InputError, match=named):
        load(tmp_path / "m")


def test_text_that_is_no_nesting_is_refused_by_the_command(tmp_path, capsys):
    export_model(nested("vit"), tmp_path / "m")
    text = (tmp_path / "m" / NESTING).read_text()
    (tmp_path / "m" / NESTING).write_text(text[: len(text) // 2])
    assert run(["inspect", str(tmp_path / "m")]) == 4
    assert NESTING in capsys.readouterr().err


def test_tied_axes_are_nested_together_or_not_at_all():
    checkpoint = apply(tiny("llama"), Edit("t", ()))
    arch = checkpoint.architecture
    shared = replace(arch, blocks=tuple(replace(b, share="b0") if b.name == "b1" else b for b in arch.blocks))
    with pytest.raises(InputError, match="b1"):
        check_nesting(
            Nesting((("b1.ffn.hidden", (4, 40)),)),
            replace(shared, sizes=tuple((a, n) for a, n in arch.sizes if not a.startswith("b1."))),
        )


def test_fractions_must_ascend_to_one():
    arch = tiny("vit").architecture
    for wrong in ((0.5, 0.25, 1), (0.5, 0.75), (), (0.0, 1)):
        with pytest.raises(UsageError, match="levels"):
            nesting_of(arch, ("ffn",), wrong)
    with pytest.raises(UsageError, match="ffm"):
        nesting_of(arch, ("ffm",), (0.5, 1))
    with pytest.raises(InputError, match="state"):
        nesting_of(arch, ("state",), (0.5, 1))


def test_a_submodel_is_a_member_or_refused():
    checkpoint = nested("vit")
    nesting, arch = checkpoint.nesting, checkpoint.architecture
    check_submodel(nesting, uniform(nesting, 1), arch)
    good = uniform(nesting, 1)
    for wrong, named in (
        (replace(good, counts=good.counts[1:]), "has no size"),
        (replace(good, counts=(*good.counts, ("s0.width", 8))), "not nested"),
        (replace(good, counts=((good.counts[0][0], 11), *good.counts[1:])), "11 long"),
        (replace(good, skipped=("b0",)), "b0"),
    ):
        with pytest.raises(InputError, match=named):
            check_submodel(nesting, wrong, arch)


DIALECTS = [(family, dialect) for family in FAMILIES for dialect in ("stock", "remote", "native", "padded")]


@pytest.mark.parametrize(("family", "dialect"), [*DIALECTS, ("llama", "sibling")])
def test_every_dialect_keeps_the_nesting(tmp_path, family, dialect):
    checkpoint = nested(family)
    export_model(checkpoint, tmp_path / "m", dialect)
    assert load(tmp_path / "m").nesting == checkpoint.nesting


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stock_folder_names_the_blocks_as_its_reader_will(tmp_path, family):
    """Without its middle block the stock file counts b0, b1; the nesting follows, and transformers still loads it."""
    transformers = pytest.importorskip("transformers")
    checkpoint = apply(nested(family), Edit("t", (Drop("b1"),)))
    assert checkpoint.nesting.depth == ("b2",)
    assert "b1.ffn.hidden" not in checkpoint.nesting.sizes
    export_model(checkpoint, tmp_path / "m", "stock")
    again = load(tmp_path / "m")
    assert again.nesting.depth == ("b1",)
    assert again.nesting.sizes["b1.ffn.hidden"] == checkpoint.nesting.sizes["b2.ffn.hidden"]
    made = transformers.AutoModel.from_pretrained(tmp_path / "m")
    assert made.config.num_hidden_layers == 2


def test_an_extracted_submodel_is_nested_up_to_its_own_sizes():
    checkpoint = nested("bert")
    small = apply(checkpoint, uniform(checkpoint.nesting, 2).edit(checkpoint.architecture, "extract"))
    assert small.nesting.sizes["b0.ffn.hidden"] == checkpoint.nesting.sizes["b0.ffn.hidden"][:3]
    between = apply(checkpoint, Edit("t", (Select(Selection("b0.ffn.hidden", tuple(range(13)))),)))
    assert between.nesting.sizes["b0.ffn.hidden"] == (10, 13)
    smallest = apply(checkpoint, uniform(checkpoint.nesting, 0).edit(checkpoint.architecture, "extract"))
    assert smallest.nesting is None
    feed = inputs(checkpoint)
    with torch.no_grad():
        direct = apply(checkpoint, uniform(checkpoint.nesting, 0).edit(checkpoint.architecture, "e")).module()(**feed)
        twice = apply(small, uniform(small.nesting, 0).edit(small.architecture, "e")).module()(**feed)
    assert all(torch.equal(direct[name], twice[name]) for name in direct)


def test_an_axis_that_is_cut_elsewhere_is_not_nested_any_more():
    checkpoint = nested("vit")
    axis = "b0.ffn.hidden"
    others = {a: s for a, s in checkpoint.nesting.levels if a != axis}
    pruned = apply(checkpoint, Edit("t", (Select(Selection(axis, (0, 2, 3, 39))),)))
    assert dict(pruned.nesting.sizes) == others
    reordered = apply(checkpoint, Edit("t", (Select(Selection(axis, tuple(reversed(range(40))))),)))
    assert reordered.nesting == checkpoint.nesting
    rows = tuple(tuple(range(pairs)) for pairs in [checkpoint.architecture.size["b0.attn.v"] - 1] * 4)
    per = apply(checkpoint, Edit("t", (Select(Selection("b0.attn.v", rows, "b0.attn.kv")),)))
    assert per.nesting == checkpoint.nesting


def test_a_block_with_its_own_copy_is_nested_as_the_one_that_it_copied():
    checkpoint = tiny("llama")
    arch = checkpoint.architecture
    blocks = tuple(replace(b, share="b0") if b.name == "b1" else b for b in arch.blocks)
    sizes = tuple((a, n) for a, n in arch.sizes if not a.startswith("b1."))
    weights = {k: v for k, v in checkpoint.weights.items() if not k.startswith("b1.")}
    shared = replace(checkpoint, architecture=replace(arch, blocks=blocks, sizes=sizes), weights=weights)
    shared = replace(shared, nesting=nesting_of(shared.architecture, ("ffn",), FRACTIONS))
    own = apply(shared, Edit("t", (Unshare("b1"),)))
    assert own.nesting.sizes["b1.ffn.hidden"] == shared.nesting.sizes["b0.ffn.hidden"]
    check_nesting(own.nesting, own.architecture)


def test_inspect_shows_it(tmp_path, capsys):
    checkpoint = nested("bert")
    export_model(checkpoint, tmp_path / "m")
    assert summary(checkpoint)["nesting"]["depth"] == ["b1", "b2"]
    assert run(["inspect", str(tmp_path / "m")]) == 0
    shown = capsys.readouterr().out
    assert "nested at 10, 20, 30, 40: b0.ffn.hidden, b1.ffn.hidden" in shown and "skipped" in shown


def test_zeros_end_the_nesting_of_an_axis_and_the_export_says_so(tmp_path):
    checkpoint = nested("bert", ("ffn",))
    ragged = apply(checkpoint, Edit("t", (Select(Selection("b0.ffn.hidden", tuple(range(30)))),)))
    made = export_model(ragged, tmp_path / "m", "padded")
    assert list(load(tmp_path / "m").nesting.sizes) == ["b1.ffn.hidden", "b2.ffn.hidden"]
    assert any("1 of 3 nested axes" in note for note in made.notes)
