"""The shape of the code stays what CONTRIBUTING.md says: lengths, annotations, docstrings, imports, printing."""

import ast
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "archtool"
FILES = sorted(PACKAGE.rglob("*.py"))
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

LAYERS = (
    ("errors", "progress", "registry", "builtins"),
    ("checkpoint",), ("ir",), ("operators",), ("constructs",), ("families",), ("zoo",), ("model",), ("data",),
    ("calibrate",), ("curvature",), ("budget",), ("transforms",), ("measure",), ("evaluate",), ("train",), ("export",),
    ("report",), ("config",), ("run",), ("api",), ("cli",),
)  # fmt: skip
"""Lowest first; a module imports from its own layer and those before it."""
RANK = {name: i for i, names in enumerate(LAYERS) for name in names}
EXCEPTIONS = {("measure", "export.onnx")}
"""Layer, module above it that it may use: measuring in ONNX Runtime starts from an exported graph."""
EAGER = {
    "model.build",
    "model.primitives",
    "model.recompute",
    "model.codec",
    "model.masked",
    "model.generate",
    "export.remote.cache",
    "export.remote.runtime",
    "export.remote.seq2seq",
}
"""Modules that are torch code through and through: imported lazily themselves."""
LIGHT = {"typer", "rich", "pydantic"} | set(sys.stdlib_module_names)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def dotted(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def functions(path: Path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, FUNCTIONS)]


def length(node) -> int:
    return node.end_lineno - node.lineno + 1


def type_checking(node) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path, top_only: bool):
    """(module, line) of every import that runs; with ``top_only``, of those that run on import."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if type_checking(child) or (top_only and isinstance(child, (*FUNCTIONS, ast.Lambda))):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                yield child.module, child.lineno
            else:
                yield from walk(child)

    return list(walk(tree(path)))


def test_files_are_short():
    lines = {dotted(p): len(p.read_text(encoding="utf-8").splitlines()) for p in FILES}
    assert {n: k for n, k in lines.items() if k > 400} == {}
    assert statistics.median(lines.values()) <= 120


def test_functions_are_short():
    long = [f"{dotted(p)}:{f.lineno} {f.name} {length(f)}" for p in FILES for f in functions(p) if length(f) > 50]
    assert long == []
    assert statistics.median(length(f) for p in FILES for f in functions(p)) <= 12


def test_every_function_is_annotated():
    def bare(f):
        given = [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs, f.args.vararg, f.args.kwarg]
        plain = [a.arg for a in given if a is not None and a.annotation is None]
        return f.returns is None or [name for name in plain if name not in ("self", "cls", "mcs")]

    assert [f"{dotted(p)}:{f.lineno} {f.name}" for p in FILES for f in functions(p) if bare(f)] == []


def test_every_public_name_is_documented():
    def undocumented(node, prefix):
        for child in getattr(node, "body", []):
            if isinstance(child, (*FUNCTIONS, ast.ClassDef)) and not child.name.startswith("_"):
                if ast.get_docstring(child) is None and not overloaded(child):
                    yield f"{prefix}:{child.lineno} {child.name}"
                if isinstance(child, ast.ClassDef):
                    yield from undocumented(child, prefix)

    def overloaded(node):
        return any("overload" in ast.unparse(d) or ".setter" in ast.unparse(d) for d in node.decorator_list)

    missing = [name for p in FILES for name in undocumented(tree(p), dotted(p))]
    assert missing + [dotted(p) for p in FILES if ast.get_docstring(tree(p)) is None] == []


def test_imports_run_one_way():
    def wrong(mine, theirs):
        top, other = mine.split(".")[0], theirs.split(".")[0]
        if top not in RANK or other not in RANK or RANK[other] <= RANK[top]:
            return False
        return not any(top == a and (theirs == b or theirs.startswith(f"{b}.")) for a, b in EXCEPTIONS)

    found = []
    for path in FILES:
        for module, line in imports(path, top_only=False):
            inside = module.removeprefix("archtool.")
            if module.startswith("archtool.") and wrong(dotted(path), inside):
                found.append(f"{dotted(path)}:{line} imports {inside}")
    assert found == []


def test_every_part_of_the_package_has_a_layer():
    parts = {dotted(p).split(".")[0] for p in FILES} - {"", "__init__", "__main__"}
    assert parts <= set(RANK)


def test_only_the_command_line_prints():
    def prints(node):
        return isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo", "sys.stdout.write")

    assert [
        f"{dotted(p)}:{node.lineno}"
        for p in FILES if not dotted(p).startswith("cli")
        for node in ast.walk(tree(p)) if prints(node)
    ] == []  # fmt: skip


def eager(name: str) -> bool:
    return name in EAGER


def test_heavy_packages_are_imported_inside_functions():
    heavy = [
        f"{dotted(p)}:{line} {module}"
        for p in FILES if not eager(dotted(p))
        for module, line in imports(p, top_only=True)
        if module.split(".")[0] not in LIGHT | {"archtool"}
    ]  # fmt: skip
    assert heavy == []


def test_modules_that_need_torch_are_imported_inside_functions():
    found = [
        f"{dotted(p)}:{line} {module}"
        for p in FILES if not eager(dotted(p))
        for module, line in imports(p, top_only=True)
        if module.startswith("archtool.") and eager(module.removeprefix("archtool."))
    ]  # fmt: skip
    assert found == []


def test_no_seed_is_set_for_everybody():
    banned = {"torch.manual_seed", "random.seed", "np.random.seed", "numpy.random.seed"}
    forked = {id(n) for p in FILES for w in ast.walk(tree(p)) if forks(w) for n in ast.walk(w)}
    calls = [(p, n) for p in FILES for n in ast.walk(tree(p)) if isinstance(n, ast.Call) and id(n) not in forked]
    assert [f"{dotted(p)}:{n.lineno}" for p, n in calls if ast.unparse(n.func) in banned] == []


def forks(node) -> bool:
    """Whether a block restores the state of torch's generator when it ends."""
    return isinstance(node, ast.With) and any("fork_rng" in ast.unparse(item.context_expr) for item in node.items)


def test_nothing_is_left_for_later():
    words = ("TODO", "FIXME", "XXX", "NotImplemented()")
    found = [f"{dotted(p)}: {w}" for p in FILES for w in words if w in p.read_text(encoding="utf-8")]
    assert found == []
    bare = [n for p in FILES for n in ast.walk(tree(p)) if isinstance(n, ast.ExceptHandler) and n.type is None]
    assert bare == []


@pytest.mark.parametrize("argv", [["--help"], ["prune", "--help"], ["run", "--help"], ["recipes", "ls"]])
def test_the_command_line_answers_without_torch(argv):
    code = f"import sys; sys.modules['torch'] = None\nfrom archtool.cli import main\nsys.exit(main.run({argv!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_everything_but_torch_code_imports_without_torch():
    light = [f"archtool.{dotted(p)}".rstrip(".") for p in FILES if not eager(dotted(p))]
    code = "import sys, importlib\nsys.modules['torch'] = None\n" + "".join(
        f"importlib.import_module({name!r})\n" for name in light
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
