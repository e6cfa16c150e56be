"""Command lines in this process on tiny checkpoints, each watched for tracebacks and for files left behind."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from archtool.cli import main
from archtool.model.save import save
from tests.model.tiny import tiny

LETTERS = "abcdefghijklmnopqrstuvwxyz \n.,"
LM = ("--task", "lm", "--set", "data.preprocess.tokenizer=chars",
      "--set", f"data.preprocess.vocabulary={json.dumps(LETTERS)}")  # fmt: skip


CARD = "README.md"
"""The model card tells when a run was and how long it took, so it differs from run to run."""


def tree(folder):
    """Every file and folder below, with the files' bytes; of model cards only that they are there."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() and p.name != CARD else b""
        for p in folder.rglob("*")
    }


@dataclass
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str

    def says(self, *parts):
        for part in parts:
            assert part in self.err, self.err


class Place:
    """A working folder with tiny models in it."""

    def __init__(self, folder, saved, capsys):
        self.folder, self.saved, self.capsys = folder, saved, capsys

    def model(self, family="llama", name="model"):
        """A fresh copy of a family's checkpoint."""
        shutil.copytree(self.saved / family, self.folder / name)
        return self.folder / name

    def run(self, *words):
        self.capsys.readouterr()
        code = main.run([str(word) for word in words])
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err and "a bug in archtool" not in err, err
        return Outcome(code, out, err)

    def fails(self, code, words, *parts):
        """The command fails with that code and those words, says nothing on stdout and leaves nothing behind."""
        before = tree(self.folder)
        found = self.run(*words)
        assert found.code == code, found
        assert found.out == "" and "error: " in found.err
        found.says(*parts)
        assert tree(self.folder) == before
        return found


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """One folder per family, as transformers would have written it."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("families")
    for family in ("llama", "bert", "vit"):
        (root / family).mkdir()
        save(tiny(family), root / family, native=False)
    return root


@pytest.fixture
def place(tmp_path, saved, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Place(tmp_path, saved, capsys)


def configure(model: Path, **changes):
    """Change keys of ``config.json``; ``...`` removes one."""
    config = {**json.loads((model / "config.json").read_text()), **changes}
    (model / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def rewrite(model: Path, change):
    """Change the table of tensors in place."""
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, model / "model.safetensors", {"format": "pt"})
