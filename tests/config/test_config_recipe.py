import pytest

from archtool.cli.show_error import error_lines
from archtool.config.document import load_yaml
from archtool.config.load import read_recipe
from archtool.config.lock import lock_text
from archtool.config.shipped import find_recipe
from archtool.errors import ArchtoolError, ErrorList, RecipeError, UsageError


def write(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def problems(tmp_path, text, overrides=()):
    """(what, line, column, hint) of every error that a recipe gives."""
    with pytest.raises(ArchtoolError) as caught:
        read_recipe(write(tmp_path, text), overrides)
    errors = caught.value.errors if isinstance(caught.value, ErrorList) else [caught.value]
    return [(e.what, e.where.line, e.where.column, e.hint) for e in errors]


GOOD = """\
# A small example
model: nowhere/model
data: {path: d.csv, columns: {label: y}}
steps:
  - append: {text: a, budget: params=0.5x}
  - measure
"""


def test_defaults_and_short_forms(tmp_path):
    recipe = read_recipe(write(tmp_path, GOOD))
    assert recipe.model.path == "nowhere/model" and recipe.verbs == ("append", "measure")
    assert (recipe.seed, recipe.batch, recipe.length, recipe.runtime) == (0, 1, 64, "onnxruntime")
    assert recipe.options[0]["times"] == 1 and recipe.options[1] == {}


def test_all_mistakes_at_once_with_line_and_column(tmp_path):
    text = "model: m\nsede: 1\nsteps:\n  - append:\n      txet: a\n      bits: 5\n  - mesure: {}\nbatch: none\n"
    found = problems(tmp_path, text)
    assert [(line, column) for _, line, column, _ in found] == [
        (2, 1),
        (4, 5),
        (5, 7),
        (6, 13),
        (7, 5),
        (8, 8),
    ]
    by_line = {line: (what, hint) for what, line, _, hint in found}
    assert by_line[2][0] == "unknown option `sede`" and "did you mean `seed`" in by_line[2][1]
    assert "`text` is missing in `steps.0.append`" in by_line[4][0]
    assert "did you mean `text`" in by_line[5][1]
    assert by_line[6][0] == "`bits: 5` is not supported; choose 2, 3, 4 or 8"
    assert by_line[7][0] == "unknown step `mesure`" and "did you mean `measure`" in by_line[7][1]
    assert "`batch` must be a valid integer" in by_line[8][0]


def test_error_text_shows_the_line_and_a_caret(tmp_path):
    path = write(tmp_path, "model: m\nsteps:\n  - append: {text: a, metod: 1}\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    lines = error_lines(caught.value)
    assert lines[1] == f"  --> {path}:3:23"
    assert lines[3].index("^") - 4 == lines[2].index("metod") - 4
    assert lines[4].startswith("hint: ")


def test_budget_mistake_points_inside_the_value(tmp_path):
    text = 'model: m\nsteps:\n  - append: {text: a, budget: "params=0.5x,size=12XB"}\n'
    [(what, line, column, _)] = problems(tmp_path, text)
    assert "unknown unit `XB`" in what
    assert (line, text.splitlines()[2][column - 1 :][:4]) == (3, "12XB")


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("seed: 1\nsteps: [measure]\nseed: 2\n", "`seed` is given twice", (3, 1)),
        ("model:\npath: x\nsteps: [measure]\n", "`model` is empty here", (1, 1)),
        ("model: [\n", "not valid YAML", (2, 1)),
        ("model: m\nsteps: []\n", "at least 1 item", (2, 8)),
        ("model: m\nsteps: {append: {}}\n", "`steps` must be", (2, 8)),
        ("model: m\nsteps:\n  - append: {text: a}\n    measure: {}\n", "not 2 keys: append, measure", (3, 5)),
        ("model: {path: a, build: b}\nsteps: [measure]\n", "either `path` or `build`", (1, 8)),
        ("model: {pth: a}\nsteps: [measure]\n", "unknown option `pth` in `model`", (1, 9)),
        ("model: m\n", "`steps` is missing", (1, 1)),
        ("steps: [measure]\nrequire: [a>=1, b=1]\n", "`b=1` is not a quality gate", (2, 17)),
        ("steps: [measure]\nrequire: b=1\n", "`b=1` is not a quality gate", (2, 10)),
        ("x: &a {<<: {b: 1}}\nsteps: [measure]\n", "merge keys", (1, 8)),
        ("steps: [{append: {text: a, inner: {dept: 2}}}]\n", "unknown option", (1, 36)),
    ],
)
def test_mistakes(tmp_path, text, message, place):
    found = problems(tmp_path, text)
    assert [(line, column) for what, line, column, _ in found if message in what] == [place], found


def test_self_referring_anchor_and_non_mapping(tmp_path):
    with pytest.raises(RecipeError, match="contains itself"):
        load_yaml(write(tmp_path, "a: &x [*x]\n"))
    with pytest.raises(RecipeError, match="not a recipe"):
        read_recipe(write(tmp_path, "just words\n"))
    with pytest.raises(RecipeError, match="not a recipe"):
        read_recipe(write(tmp_path, ""))
    with pytest.raises(RecipeError, match="cannot read"):
        read_recipe(tmp_path / "missing.yaml")


def test_set_changes_values(tmp_path):
    changes = ("steps.0.append.budget=params=0.4x", "seed=7", "model.names=t.yaml", "steps.0.append.times=3")
    recipe = read_recipe(write(tmp_path, GOOD), changes)
    assert recipe.options[0]["budget"] == "params=0.4x" and recipe.options[0]["times"] == 3
    assert recipe.seed == 7 and recipe.model.path == "nowhere/model" and recipe.model.names == "t.yaml"


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("steps.0.append.budgit=size=1MB", "unknown option `budgit`", "did you mean `budget`"),
        ("steps.0.apend.text=b", "step 0 has no `apend`", "did you mean `append`"),
        ("steps.4.append.text=b", "`4` is none of them", "from 0 to 1"),
        ("sed=1", "unknown option `sed`", "did you mean `seed`"),
        ("seed.x=1", "`seed` must be a valid integer", ""),
        ("seed", "path=value", ""),
        ("steps.0.append.bits=5", "`bits: 5` is not supported", ""),
    ],
)
def test_set_mistakes_are_shown_at_the_flag(tmp_path, change, message, hint):
    with pytest.raises(ArchtoolError) as caught:
        read_recipe(write(tmp_path, GOOD), [change])
    assert isinstance(caught.value, RecipeError | UsageError)
    assert message in caught.value.what and hint in caught.value.hint
    assert str(caught.value.where.file) == "--set" and change in caught.value.where.text


def test_paths_are_taken_from_the_recipes_folder_first(tmp_path, monkeypatch):
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "m.txt").write_text("x")
    (outside / "d.csv").write_text("x")
    monkeypatch.chdir(outside)
    recipe = read_recipe(write(inside, "model: m.txt\ndata: d.csv\nsteps: [measure]\n"))
    assert recipe.model.path == str(inside / "m.txt") and recipe.data["path"] == str(outside / "d.csv")


def test_lock_is_a_recipe_with_everything_filled_in(tmp_path):
    recipe = read_recipe(write(tmp_path, GOOD))
    path = tmp_path / "recipe.lock.yaml"
    path.write_text(lock_text(recipe, "f" * 64, {"model.path": "sha256:0"}))
    again = read_recipe(path)
    assert again.resolved() == recipe.resolved()
    assert again.lock["fingerprint"] == "f" * 64 and "times: 1" in path.read_text()


def test_shipped_recipes_by_name_or_path(tmp_path, monkeypatch):
    (tmp_path / "goal").mkdir()
    (tmp_path / "goal" / "small.yaml").write_text("# Small.\nsteps: [measure]\n")
    monkeypatch.setattr("archtool.config.shipped.recipe_root", lambda: tmp_path)
    assert find_recipe("goal/small") == find_recipe("recipes/goal/small.yaml") == tmp_path / "goal" / "small.yaml"
    with pytest.raises(RecipeError) as caught:
        find_recipe("goal/smal")
    assert "did you mean `goal/small`" in caught.value.hint
