"""Slicing tables: there and back, the shape that Gemma 3n's has, and what is wrong with a row."""

import pytest

from archtool.errors import InputError
from archtool.ir.nesting import Submodel
from archtool.transforms.extract.grid import grid_of
from archtool.transforms.extract.slices import Slice, read_slices, slice_named, write_slices
from archtool.transforms.nesting import nesting_of
from tests.model.tiny import tiny

GEMMA = """name,# Layers,# Effective Params (B),MMLU PT accuracy,FFN Hidden Dims,Layers Skipped
Main model,3,3.98,62.30%,"[2 * 20, 2 * 20, 2_0 * 2]",
Config for E1.96B (layer-level),2,1.96,53.40%,"[2 * 10, 2 * 20]","[1]"
none skipped,3,1.0,,"[1, 2, 3]",null
"""


def written(tmp_path, text):
    (tmp_path / "table.csv").write_text(text)
    return tmp_path / "table.csv"


def test_the_published_shape_is_read(tmp_path):
    found = read_slices(written(tmp_path, GEMMA), tiny("llama").architecture)
    assert found["Main model"].submodel == Submodel(tuple((f"b{i}.ffn.hidden", 40) for i in range(3)))
    small = found["Config for E1.96B (layer-level)"].submodel
    assert small == Submodel((("b0.ffn.hidden", 20), ("b2.ffn.hidden", 40)), ("b1",))
    assert dict(found["none skipped"].submodel.counts) == {f"b{i}.ffn.hidden": i + 1 for i in range(3)}


@pytest.mark.parametrize("family", ["vit", "bert", "llama"])
@pytest.mark.parametrize("kinds", [("ffn",), ("ffn", "heads", "depth")])
def test_written_tables_read_back(tmp_path, family, kinds):
    arch = tiny(family).architecture
    grid = grid_of(nesting_of(arch, kinds, (0.3, 1.0)), arch)
    rows = [Slice(f"m {i}", grid.submodel(p), 1e6 + i, 0.1 * i) for i, p in enumerate(grid.members())]
    text = write_slices(rows, arch, "loss")
    assert text.splitlines()[0].startswith("name,# Layers,# Effective Params (B),loss,FFN Hidden Dims,Layers Skipped")
    assert ("Other Sizes" in text) == ("heads" in kinds)
    found = read_slices(written(tmp_path, text), arch)
    for row in rows:
        mine, theirs = (dict(m.counts) for m in (found[row.name].submodel, row.submodel))
        assert {a: n for a, n in theirs.items() if a.partition(".")[0] not in row.submodel.skipped} == {
            a: n for a, n in mine.items() if a.partition(".")[0] not in row.submodel.skipped
        }
        assert set(found[row.name].submodel.skipped) == set(row.submodel.skipped)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('a,3,1,,"[40, 40]",', "2 widths for 3 layers"),
        ('a,2,1,,"[40, 40, 40]","[0]"', "3 widths for 2 layers"),
        ('a,2,1,,"[40, 40]","[3]"', "layer 3 is skipped; the model has 3"),
        ('a,3,1,,"[41, 40, 40]",', "b0 cannot be 41 wide: it has 40"),
        ('a,3,1,,"[0, 40, 40]",', "b0 cannot be 0 wide"),
        ('a,3,1,,"[4 + 1, 40, 40]",', "FFN Hidden Dims is"),
        ('a,3,1,,"[-4, 40, 40]",', "FFN Hidden Dims is"),
        ("a,3,1,,40,", "FFN Hidden Dims is '40'"),
        ('a,3,1,,"[40, 40, 40]",\na,3,1,,"[40, 40, 40]",', "two slices named 'a'"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, message):
    head = "name,# Layers,# Effective Params (B),q,FFN Hidden Dims,Layers Skipped\n"
    with pytest.raises(InputError, match=message.replace("+", r"\+")) as caught:
        read_slices(written(tmp_path, head + row + "\n"), tiny("llama").architecture)
    assert caught.value.where is not None and caught.value.where.line in (2, 3)


def test_wrong_tables_and_names_are_refused(tmp_path):
    arch = tiny("llama").architecture
    with pytest.raises(InputError, match="no column 'FFN Hidden Dims'"):
        read_slices(written(tmp_path, "name,width\na,3\n"), arch)
    with pytest.raises(InputError, match="cannot be read"):
        read_slices(tmp_path / "none.csv", arch)
    with pytest.raises(InputError, match="no slice 'Main modle'") as caught:
        slice_named(read_slices(written(tmp_path, GEMMA), arch), "Main modle")
    assert "Main model" in caught.value.hint
