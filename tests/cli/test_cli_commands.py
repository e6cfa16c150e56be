import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archtool import registry
from archtool.cli import main, runner
from archtool.errors import ResourceError, UsageError

REPO = Path(__file__).resolve().parents[2]
FAKE = REPO / "tests" / "fake_plugin"


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run one command line in a fresh folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "HOOKS", "archtool_fake:HOOKS")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv):
        code = main.run([str(word) for word in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def process(*argv, **environment):
    paths = os.pathsep.join([str(REPO), str(FAKE)])
    command = [sys.executable, *argv]
    values = os.environ | {"PYTHONPATH": paths} | environment
    return subprocess.run(command, env=values, capture_output=True, text=True, timeout=60)


def test_a_step_is_a_verb(call, model, tmp_path):
    code, out, _ = call("append", model, "--text", "abc", "--times", 2, "--upper", "--words", "x", "--out", "run")
    assert code == 0 and "run/model" in out
    assert (tmp_path / "run" / "model" / "weights.txt").read_text() == "parentABCABC"
    lock = (tmp_path / "run" / "recipe.lock.yaml").read_text()
    assert "bits: 4" in lock and "- x" in lock
    assert call("run", "run/recipe.lock.yaml", "--out", "run", "--quiet")[0] == 0


def test_json_is_alone_on_stdout(call, model):
    code, out, err = call("measure", model, "--json", "--seed", 5)
    found = json.loads(out)
    assert code == 0 and found["characters"] == 6 and found["records"] == {"measure": {"seed": 5}}
    code, out, err = call("append", model, "--text", "a", "--json", "-v")
    assert code == 0 and json.loads(out)["run"]["hash"] and "0-append" in err


def test_dry_run_shows_the_plan(call, model, tmp_path):
    code, out, _ = call("append", model, "--text", "abc", "--out", "run", "--dry-run")
    assert code == 0 and "3 MB" in out and "2 s" in out
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["recipe.lock.yaml"]
    code, out, _ = call("append", model, "--text", "abc", "--out", "run", "--dry-run", "--json")
    assert json.loads(out)["plan"][0]["verb"] == "append"


def test_shared_flags_become_recipe_fields(call, model, tmp_path):
    (tmp_path / "d.csv").write_text("x,y\n")
    flags = (
        "--data",
        "d.csv",
        "--columns",
        "text=x,label=y",
        "--protect",
        "head",
        "--threads",
        2,
        "--names",
        "n",
    )
    code, _, err = call("append", model, "--text", "a", *flags, "--out", "run")
    assert code == 0, err
    from archtool.config.load import read_recipe

    recipe = read_recipe(tmp_path / "run" / "recipe.lock.yaml")
    assert recipe.data == {"path": str(tmp_path / "d.csv"), "columns": {"text": "x", "label": "y"}}
    assert (recipe.protect, recipe.threads, recipe.model.names) == (("head",), 2, "n")


@pytest.mark.parametrize(
    ("words", "code", "messages"),
    [
        (["apend", "m"], 2, ["no such command `apend`", "did you mean `append`"]),
        (["append", "{model}", "--txt", "a"], 2, ["no such option", "did you mean --text"]),
        (["append"], 2, ["missing argument", "archtool append --help"]),
        (["append", "{model}", "--text"], 2, ["--text"]),
        (["append", "{model}"], 2, ["`text` is missing"]),
        (
            ["append", "{model}", "--text", "a", "--bits", "5"],
            2,
            ["`bits: 5`", "--> --bits:1:1", "choose 2, 3, 4"],
        ),
        (
            ["append", "{model}", "--text", "a", "--budget", "params=1q"],
            2,
            ["--> --budget:1:8", "unknown unit"],
        ),
        (["append", "{model}", "--text", "a", "--mode", "lod"], 2, ["`mode: lod`"]),
        (["append", "{model}", "--text", "a", "--set", "steps.0.append.tims=2"], 2, ["did you mean `times`"]),
        (["append", "{model}", "--text", "a", "--columns", "x"], 2, ["name=value"]),
        (["append", "{model}", "--text", "a", "--times", "x"], 2, ["--times"]),
        (["run", "missing.yaml"], 3, ["no recipe"]),
        (["run", "bad.yaml"], 3, ["bad.yaml:2:3", "did you mean `append`", "^"]),
        (["measure", "nowhere.txt"], 4, ["is not a model"]),
        (["fail", "{model}", "--how", "disk"], 5, ["No space left", "model.bin"]),
        (["fail", "{model}", "--how", "memory"], 5, ["out of memory"]),
        (["append", "{model}", "--text", "a", "--out", "{model}"], 5, ["a file is in the way"]),
        (["fail", "{model}", "--how", "budget"], 6, ["no model fits", "nearest: params=3M"]),
        (["measure", "{model}", "--require", "characters>=7"], 7, ["characters is 6, required >= 7"]),
        (
            ["fail", "{model}", "--how", "interrupt"],
            130,
            ["interrupted", "archtool run runs/fail-model.txt-"],
        ),
    ],
)
def test_exit_codes_and_messages(call, model, tmp_path, words, code, messages):
    (tmp_path / "bad.yaml").write_text("steps:\n- appendd: {}\n")
    given, _, err = call(*[word.format(model=model) for word in words])
    assert given == code, err
    assert err.startswith("error: ") and "Traceback" not in err
    for message in messages:
        assert message in err


def test_a_failed_gate_still_shows_the_result(call, model):
    code, out, _ = call("measure", model, "--require", "characters>=7", "--json")
    assert code == 7 and json.loads(out)["characters"] == 6


def test_a_bug_saves_its_traceback(call, model, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, _, err = call("fail", model)
    [saved] = tmp_path.glob("archtool-bug-*.txt")
    assert code == 1 and "KeyError: 'lost'" in err and str(saved) in err and "Traceback" not in err
    assert "Traceback" in saved.read_text()


def test_plugins_and_doctor_list_the_broken_one(call):
    rows = json.loads(call("plugins", "--json")[1])
    found = {(row["kind"], row["name"]): row["error"] for row in rows}
    assert "archtool-fake" in found["operators", "broken"] and "archtool_fake_missing" in found["operators", "broken"]
    assert found["operators", "described"] == "" and found["steps", "append"] == ""
    assert "broken: operators entry" in call("plugins")[1]
    report = json.loads(call("doctor", "--json")[1])
    assert "operators/broken" in report["broken plugins"] and report["packages"]["typer"]
    assert "operators/broken" in call("doctor")[1]


def test_registry_names_both_packages_of_a_duplicate(tmp_path, monkeypatch, call):
    folder = tmp_path / "site" / "rival-2.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 2.0\n")
    (folder / "entry_points.txt").write_text("[archtool.steps]\nappend = rival:Append\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    registry.entries.cache_clear()
    registry.duplicates.cache_clear()
    with pytest.raises(UsageError, match=r"archtool-fake .* and rival|rival .* and archtool-fake"):
        registry.lookup("steps", "append")
    assert "append" in call("--help")[1] and "two packages register" in call("plugins")[1]


def test_registry_lookup():
    assert registry.lookup("operators", "described").capability().facts == {"exact": "yes"}
    assert registry.load("operators", "described") is registry.load("steps", "append")
    with pytest.raises(UsageError) as caught:
        registry.lookup("operators", "descrbed")
    assert "did you mean `described`" in caught.value.hint
    with pytest.raises(ResourceError, match="archtool-fake does not load: ModuleNotFoundError"):
        registry.load("operators", "broken")


def test_recipes_commands(call, tmp_path, monkeypatch):
    root = tmp_path / "shipped"
    root.mkdir()
    (root / "small.yaml").write_text("# Small and quick.\nmodel: m\nsteps: [measure]\n")
    monkeypatch.setattr("archtool.config.shipped.recipe_root", lambda: root)
    assert json.loads(call("recipes", "ls", "--json")[1]) == [{"name": "small", "summary": "Small and quick."}]
    assert call("recipes", "show", "small")[1] == (root / "small.yaml").read_text()
    assert json.loads(call("recipes", "show", "small", "--json")[1])["batch"] == 1
    assert call("recipes", "cp", "small")[0] == 0 and (tmp_path / "small.yaml").exists()
    assert call("recipes", "cp", "small")[0] == 2
    assert "valid: measure" in call("recipes", "validate", "small.yaml")[1]
    assert call("recipes", "validate", "small.yaml", "--set", "sed=1")[0] == 3


def test_report_of_something_else_is_refused(call, tmp_path):
    code, _, err = call("report", tmp_path)
    assert code == 4 and "is not a finished run" in err


def test_help_has_panels_and_two_examples(call):
    code, out, _ = call("append", "--help")
    assert code == 0
    for words in ("Input", "Budget", "Method", "Output", "Runtime", "2|3|4|8", "[4]", "[required]"):
        assert words in out
    assert "archtool append model.txt --text abc --times 3" in out and "--inner" not in out


def test_every_command_has_two_examples_and_json(call):
    from archtool.cli.app import build, summaries

    for name in summaries():
        made = build(name)
        for command in getattr(made, "commands", {name: made}).values():
            flags = {flag for parameter in command.params for flag in parameter.opts}
            assert "--json" in flags, name
            assert command.epilog.count("archtool ") >= 2, name


def test_option_list_does_not_change_unnoticed(call):
    """A snapshot: flags are an interface; change this list together with the documentation."""
    from archtool.cli.app import build

    def flags(name):
        return sorted(flag for p in build(name).params for flag in (*p.opts, *p.secondary_opts) if flag[0] == "-")

    common = ["--dry-run", "--force", "--json", "--keep-work", "--no-resume", "--out", "--quiet", "--resume"]
    common += ["--seed", "--set", "--verbose", "-o", "-q", "-v"]
    assert flags("run") == sorted(common)
    own = ["--text", "--times", "--bits", "--mode", "--budget", "--upper", "--no-upper", "--ratio", "--words"]
    shared = ["--names", "--data", "--columns", "--protect", "--require", "--threads"]
    assert flags("append") == sorted([*common, *own, *shared])
    assert flags("doctor") == ["--json"] and flags("plugins") == ["--installed", "--json"]
    assert flags("report") == ["--dry-run", "--json"]


HEAVY = ("torch", "numpy", "pydantic", "yaml", "transformers", "scipy")
SHOW = f"import sys; print(','.join(m for m in {HEAVY!r} if m in sys.modules), file=sys.stderr); sys.exit(code)"


def test_help_and_completion_import_nothing_heavy():
    program = f"from archtool.cli.main import run; code = run(['--help']); {SHOW}"
    done = process("-c", program)
    assert done.returncode == 0 and "append" in done.stdout and done.stderr.strip() == ""
    words = {"_ARCHTOOL_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    program = f"from archtool.cli.main import main\ntry: main()\nexcept SystemExit as e: code = e.code\n{SHOW}"
    done = process("-c", program, **words, COMP_WORDS="archtool ap")
    assert done.stdout.split() == ["append"]
    assert done.stderr.strip() in ("", "pydantic")  # Typer's own completion reads options with it
    done = process("-c", program, **words | {"COMP_CWORD": "3"}, COMP_WORDS="archtool append m --ti")
    assert done.stdout.split() == ["--times"] and "torch" not in done.stderr
    done = process("-c", program, **words | {"COMP_CWORD": "4"}, COMP_WORDS="archtool append m --mode l")
    assert done.stdout.split() == ["loud"]


def test_plain_output_without_a_terminal():
    done = process("-m", "archtool_fake", "plugins", "--nonsense")
    assert done.returncode == 2 and "\x1b[" not in done.stderr
    done = process("-m", "archtool_fake", "--version")
    assert done.stdout.startswith("archtool ") and done.returncode == 0


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m archtool_fake plugins | true; echo ${{PIPESTATUS[0]}}"
    values = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO), str(FAKE)])}
    done = subprocess.run(["bash", "-c", command], env=values, capture_output=True, text=True, timeout=60)
    assert done.stderr == "" and done.stdout.strip() == "0"


def test_the_fake_plugin_is_found_by_its_metadata():
    assert importlib.metadata.version("archtool-fake") == "1.0"
