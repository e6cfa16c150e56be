"""The benchmarks' claims, rows and page hang together; the commands themselves are run by ``benchmarks/run.py``."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
ROW_KEYS = {"command", "goal", "value", "pass", "spread", "seeds", "seconds", "commit", "machine", "mode"}


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """The folder's files import each other by their bare names, as scripts do."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None) or ""
        if path.startswith(str(BENCHMARKS)):
            del sys.modules[name]


def fake(tmp_path, monkeypatch, script, **options):
    """A command in a folder of its own, with the claims ``a`` (at most 1) and ``b`` (reported)."""
    import claims
    import run

    command = claims.Command("fake.py", 0.0, **options)
    made = (
        claims.Claim("t.a", command, "at most 1", "<=", 1, printed="its own name: *"),
        claims.Claim("t.b", command, "none", "reported"),
    )
    (tmp_path / "fake.py").write_text(script)
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(claims, "CLAIMS", made)
    return command


PRINTS = """import json
print("for people")
print(json.dumps({"claim": "its own name: 3 GB", "value": VALUE, "spread": 0.1, "seeds": 3}))
print(json.dumps({"claim": "t.b", "skipped": "no data"}))
"""


def test_every_claim_has_a_row():
    from claims import CLAIMS
    from results import read_results

    rows = read_results()
    missing = [claim.id for claim in CLAIMS if claim.id not in rows]
    assert not missing, f"no row in results.json for {missing}: run benchmarks/run.py --resume"
    assert set(rows) == {claim.id for claim in CLAIMS}


def test_rows_say_what_the_claims_say():
    from claims import CLAIMS
    from results import read_results

    rows = read_results()
    for claim in (c for c in CLAIMS if c.id in rows):
        row = rows[claim.id]
        assert set(row) >= ROW_KEYS, claim.id
        assert row["goal"] == claim.goal and row["command"] == f"python benchmarks/{claim.command.file}"
        if row["value"] is not None:
            assert row["pass"] == claim.passes(row["value"]), claim.id
        else:
            assert row.get("error") or row.get("skipped"), claim.id


def test_commands_exist_and_claims_are_distinct():
    from claims import CLAIMS, commands

    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert [c.file for c in commands() if not (BENCHMARKS / c.file).is_file()] == []


def test_the_page_is_current():
    from results import read_results
    from table import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(read_results()), "run python benchmarks/table.py"


def test_printed_names_belong_to_one_claim():
    from claims import CLAIMS

    for name in (
        "inspect of 20.0 GB: seconds",
        "latency-table.vit.torch.error_p95_pct",
        "spine.6.help_seconds",
    ):
        assert sum(claim.matches(name) for claim in CLAIMS) == 1


@pytest.mark.parametrize(
    ("compare", "value", "expected"),
    [("<=", 1.0, True), ("<", 1.0, False), (">=", 0.9, False), ("==", 1, True), ("within", 1.2, True),
     ("within", 1.3, False), ("reported", 9.0, None), ("<=", float("nan"), False)],
)  # fmt: skip
def test_comparisons(compare, value, expected):
    import claims

    claim = claims.Claim("t", claims.QUICKSTART, "", compare, 1.0, 0.25)
    assert claim.passes(value) is expected


@pytest.mark.parametrize(("value", "passes"), [(0.5, True), (2, False)])
def test_a_command_gives_rows(value, passes, tmp_path, monkeypatch):
    import run

    command = fake(tmp_path, monkeypatch, PRINTS.replace("VALUE", str(value)))
    rows = run.measured(command, quick=True)
    assert rows["t.a"]["value"] == value and rows["t.a"]["pass"] is passes
    assert (rows["t.a"]["spread"], rows["t.a"]["seeds"], rows["t.a"]["mode"]) == (0.1, 3, "full")
    assert rows["t.b"]["pass"] is None and rows["t.b"]["skipped"] == "no data"
    assert run.show(rows) is passes


def test_a_failing_command_is_recorded_with_its_error(tmp_path, monkeypatch):
    import run

    script = "\n".join([*PRINTS.replace("VALUE", "0.5").splitlines()[:3], 'raise ValueError("broke")'])
    rows = run.measured(fake(tmp_path, monkeypatch, script), quick=False)
    assert rows["t.a"]["pass"] is True
    assert rows["t.b"]["pass"] is False and rows["t.b"]["error"] == "exit 1: ValueError: broke"


def test_a_quick_stand_in_never_replaces_a_full_measurement(tmp_path, monkeypatch):
    import results
    import run

    command = fake(tmp_path, monkeypatch, PRINTS.replace("VALUE", "0.5"), quick=True)
    full, quick = run.measured(command, quick=False), run.measured(command, quick=True)
    assert quick["t.a"]["mode"] == "quick"
    assert results.merged(full, quick) == full and results.merged(quick, full) == full
    now = results.commit()
    assert run.is_done(command, full, now, quick=True) and run.is_done(command, quick, now, quick=True)
    assert not run.is_done(command, quick, now, quick=False) and not run.is_done(command, full, "other", quick=False)


def test_results_are_written_whole_and_in_order(tmp_path):
    from claims import CLAIMS
    from results import read_results, write_results

    path = tmp_path / "results.json"
    rows = {claim.id: {"value": 1} for claim in reversed(CLAIMS)}
    write_results(rows | {"gone": {"value": 2}}, path)
    assert list(json.loads(path.read_text())) == [claim.id for claim in CLAIMS]
    assert read_results(path) == rows and [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_list_and_unknown_names(capsys):
    import run

    assert run.main(["--list", "--only", "spine.6.*"]) == 0
    assert "spine_cli.py" in capsys.readouterr().out
    assert run.main(["--only", "nothing.*"]) == 2


def test_recipes_of_the_parents_are_valid_and_small():
    from claims import GPTS, VITS

    from archtool.config.load import read_recipe
    from archtool.config.preset import read_preset
    from archtool.ir.cost import cost
    from archtool.model.preset import architecture_of

    paths = sorted((ROOT / "recipes" / "parents").glob("*.yaml"))
    assert {path.stem for path in paths} == {*VITS, *GPTS}
    for path in paths:
        recipe = read_recipe(path)
        preset, _ = read_preset(recipe.model.build)
        arch, _ = architecture_of(preset.family, preset.config)
        stated = cost(arch).parameters
        assert 2 * stated < 1_950_000, f"{path.stem} takes {2 * stated} bytes as bf16"
        assert len(arch.stage("s0")) == (6 if path.stem in VITS else 4)


def test_kept_parents_are_what_their_list_says():
    import parents

    facts = parents.read_facts()
    for name, said in facts.items():
        assert parents.intact(name, said), f"{name}: its file is not the one that was trained"
        assert said["size_bytes"] == (parents.KEPT / name / "model.safetensors").stat().st_size
