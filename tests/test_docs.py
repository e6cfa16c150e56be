"""The documentation is true: its code runs, its quotes are quotes, its links lead somewhere, its tables are current."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from archtool.cli import main

REPO = Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCK = re.compile(r"^```(\w+)( \w+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAID = (REPO / "tests" / "ir" / "said.py").read_text(encoding="utf-8")


def blocks(page, language, mark=""):
    text = page.read_text(encoding="utf-8")
    return [m[3] for m in BLOCK.finditer(text) if m[1] == language and (m[2] or "").strip() == mark]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """All blocks of a page in one namespace, in order, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names = {"Path": Path, "__name__": f"docs_{page.stem}"}
    module = type(sys)(names["__name__"])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.__dict__.update(names)
    for i, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page.name}, block {i + 1}", "exec"), module.__dict__)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "bash")], ids=lambda p: p.stem)
def test_commands_run(page, tmp_path, monkeypatch, capsys):
    """Every line of a bash block, in a folder with nothing but a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(SAID, encoding="utf-8")
    lines = [line for block in blocks(page, "bash") for line in block.splitlines() if line.strip()]
    assert lines
    for line in lines:
        program, *argv = shlex.split(line)
        assert program == "archtool", line
        assert main.run(argv) == 0, capsys.readouterr().err


def test_quoted_operators_are_those_that_are_tested():
    quotes = blocks(DOCS / "representation.md", "python", "said")
    assert len(quotes) >= 6
    for quote in quotes:
        assert without_blank_lines(quote) in without_blank_lines(SAID), quote


def without_blank_lines(text):
    return "\n".join(line for line in text.splitlines() if line.strip())


def test_pages_of_commands_are_current():
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_lead_to_files():
    pages = [*DOCS.rglob("*.md"), REPO / "CONTRIBUTING.md", *REPO.glob("plugins/*/README.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8"))
        if "://" not in link and not link.endswith("../README.md")
    ]
    assert links and [(str(p), link) for p, link in links if not (p.parent / link).exists()] == []


def test_every_file_that_pages_name_exists():
    named = re.compile(r"`((?:tests|docs|plugins|archtool|recipes|scripts|search_spaces)/[\w./-]+)`")
    pages = [*PAGES, REPO / "CONTRIBUTING.md"]
    missing = [(p.name, f) for p in pages for f in named.findall(p.read_text()) if not (REPO / f).exists()]
    assert missing == []


def test_the_operator_and_step_of_the_pages_are_those_of_the_example():
    squeeze = (REPO / "plugins/archtool-example/archtool_example/squeeze.py").read_text()
    forward = "return x * torch.sigmoid(m.expand(torch.relu(m.squeeze(mean_B1D))))"
    assert forward in squeeze and forward in (DOCS / "adding_an_operator.md").read_text()
    step = (REPO / "plugins/archtool-example/archtool_example/round_widths.py").read_text()
    kept = "kept = {axis: len(s) // multiple * multiple for axis, s in scores.items()}"
    assert kept in step and kept in (DOCS / "adding_a_transform.md").read_text()
