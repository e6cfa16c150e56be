"""Model folders: resolving, configuration, sidecar files, pooling."""

import json
from pathlib import Path

import pytest

from archtool.checkpoint.folder import Pooling, copy_sidecars, pooling, read_config, resolve, sidecars
from archtool.errors import InputError

MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    write_json(root / "config.json", {"model_type": "bert"})
    write_json(root / "modules.json", MODULES)
    write_json(root / "sentence_bert_config.json", {"max_seq_length": 256})
    write_json(root / "1_Pooling/config.json", {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    (root / "2_Normalize").mkdir()
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "spiece.model",
        "chat_template.jinja",
    ):
        (root / name).write_bytes(name.encode() + b"\r\n\xff")
    for name in ("modeling_x.py", "tokenizer_x.py", "1_Pooling/custom.py", "model.safetensors", "README.md"):
        (root / name).write_text("x")
    return root


def test_sidecars_travel_and_code_does_not(folder, tmp_path):
    expected = (
        "1_Pooling/config.json", "2_Normalize/", "chat_template.jinja", "modules.json",
        "sentence_bert_config.json", "spiece.model", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    )  # fmt: skip
    assert sidecars(folder) == expected
    target = tmp_path / "copy"
    target.mkdir()
    assert copy_sidecars(folder, target) == expected == sidecars(target)
    assert all((target / n).read_bytes() == (folder / n).read_bytes() for n in expected if not n.endswith("/"))
    assert not list(target.rglob("*.py"))


def test_pooling_is_read(folder):
    assert pooling(folder) == Pooling("mean", normalize=True, max_seq_length=256)
    write_json(folder / "modules.json", [*MODULES[:2], {"path": "2_Dense", "type": "a.b.Dense"}])
    write_json(folder / "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    (folder / "sentence_bert_config.json").unlink()
    assert pooling(folder) == Pooling("cls", normalize=False, max_seq_length=None, others=("Dense",))
    (folder / "modules.json").unlink()
    assert pooling(folder) == Pooling("cls", normalize=False, max_seq_length=None)
    (folder / "1_Pooling/config.json").unlink()
    assert pooling(folder) is None


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        {"pooling_mode_lasttoken": True},
        {},
    ],
)
def test_other_pooling_is_refused(folder, config):
    write_json(folder / "1_Pooling/config.json", config)
    with pytest.raises(InputError, match="pools by"):
        pooling(folder)


@pytest.mark.parametrize("modules", [{"a": 1}, [{"path": "x"}], [{"path": "../1_Pooling", "type": "a.Pooling"}]])
def test_wrong_modules_are_refused(folder, modules):
    write_json(folder / "modules.json", modules)
    with pytest.raises(InputError, match=r"modules\.json is not a list of modules"):
        pooling(folder)


def test_config_errors_name_the_place(folder):
    assert read_config(folder) == {"model_type": "bert"}
    (folder / "config.json").write_text('{\n  "a": 1,\n  "b" 2\n}')
    with pytest.raises(InputError, match=r"config\.json:3:7: not valid JSON") as caught:
        read_config(folder)
    assert caught.value.where is not None
    assert (caught.value.where.line, caught.value.where.column, caught.value.where.text) == (3, 7, '  "b" 2')


@pytest.mark.parametrize(("content", "fact"), [(b"[1]", "not a JSON object"), (b"\xff", "not UTF-8"), (b"", ":1:1:")])
def test_config_that_is_no_object_is_refused(folder, content, fact):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=fact):
        read_config(folder)


def test_missing_config_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.json is missing"):
        read_config(tmp_path)


def test_resolve_gives_local_paths(folder):
    assert resolve(str(folder)) == folder
    assert resolve(str(folder / "model.safetensors")) == folder / "model.safetensors"


@pytest.mark.parametrize("name", ["./missing", "/no/such/folder", "a/b/c", "model file", "../up", ""])
def test_resolve_refuses_missing_paths_without_a_look_up(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("looked up"))
    if name == "":
        assert resolve(name) == Path()
        return
    with pytest.raises(InputError, match="does not exist"):
        resolve(name)


def test_resolve_offline_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="neither a local path nor a model") as caught:
        resolve("no-such-organisation/no-such-model")
    assert "network" in caught.value.hint


def test_resolve_asks_the_hub_for_pickles_only_without_safetensors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []

    def snapshot_download(hub_id, allow_patterns):
        asked.append(allow_patterns)
        assert not any("py" in pattern.rsplit(".", 1)[-1] for pattern in allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert resolve("org/model") == tmp_path
    assert [patterns[-1] for patterns in asked] == ["*.safetensors", "pytorch_model*.bin"]
    (tmp_path / "model.safetensors").write_bytes(b"x")
    resolve("org/model")
    assert len(asked) == 3
