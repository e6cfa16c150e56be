import pytest

from archtool.export.model import export_model
from archtool.model.load import load
from tests.export.models import MODELS, made


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("shard", ["50KB", "5GB"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_an_unchanged_model_is_written_byte_for_byte_as_it_came(name, shard, tmp_path):
    original = made(name, tmp_path / "in", max_shard_size=shard)
    if shard == "50KB":
        assert (original / "model.safetensors.index.json").is_file()
    exported = export_model(load(original), tmp_path / "out")
    assert (exported.dialect, exported.reasons) == ("stock", ())
    before, after = contents(original), contents(tmp_path / "out")
    assert sorted(before) == sorted(after) == sorted(exported.files)
    assert [name for name in before if before[name] != after[name]] == []
    weights = [name for name in after if name.endswith(".safetensors")]
    assert exported.size_bytes == sum(len(after[name]) for name in weights)


def test_a_smaller_sharded_model_states_its_own_sums(tmp_path):
    import json

    from tests.export.models import edited, keep

    checkpoint = load(made("bert", tmp_path / "in", max_shard_size="50KB"))
    smaller = edited(checkpoint, *(keep(f"b{i}.ffn.hidden", range(32)) for i in range(3)))
    exported = export_model(smaller, tmp_path / "out")
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    reread = load(tmp_path / "out")
    count = sum(lazy.shape[0] * (lazy.shape[1] if len(lazy.shape) > 1 else 1) for lazy in reread.weights.values())
    assert index["metadata"] == {"total_parameters": count, "total_size": 4 * count}
    assert exported.size_bytes > 4 * count
