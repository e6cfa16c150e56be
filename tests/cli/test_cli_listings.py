"""`archtool families` and `archtool operators`."""

import json
import subprocess
import sys

import pytest

from archtool.builtins import FAMILIES
from archtool.cli import main


def listed(capsys, *argv):
    assert main.run([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_families_say_which_model_types_they_read(capsys):
    rows = {row["name"]: row for row in listed(capsys, "families")}
    assert set(FAMILIES) <= set(rows)
    assert "mistral" in rows["llama"]["model_types"] and rows["vit"]["model_types"] == ["vit"]
    assert all(row["summary"] and not row["error"] for row in rows.values())


def test_operators_say_their_axes_and_their_legal_edits(capsys):
    rows = {row["kind"]: row for row in listed(capsys, "operators")}
    assert rows["mix.attn"]["axes"]["v"] == ["map", "scale", "select"]
    assert rows["stem.patch"]["axes"] == {"positions": []} and 196 in rows["mix.attn"]["papers"]


def test_a_broken_plugin_is_listed_with_its_error(capsys):
    rows = {row["kind"]: row for row in listed(capsys, "operators")}
    assert "archtool_fake_missing" in rows["broken"]["error"] and rows["broken"]["package"] == "archtool-fake"
    assert rows["described"]["error"] == "archtool_fake:DESCRIBED is not an operator"


@pytest.mark.parametrize("command", ["families", "operators"])
def test_tables_are_for_people_and_import_no_torch(command):
    code = f"import sys; sys.modules['torch'] = None; from archtool.cli import main\nsys.exit(main.run(['{command}']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("llama" if command == "families" else "hidden (select)") in done.stdout
