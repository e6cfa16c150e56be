"""The remote file: complete, free of archtool, fixed for a kind of model, and right about names."""

import ast
import builtins
import symtable

import pytest

from archtool.export.remote.bundle import Bundle
from archtool.export.remote.modeling import RUNTIME, _modeling_file, modeling_file
from archtool.ir.encodings import ENCODINGS, Dense, EncodingPlan
from archtool.model.load import load
from archtool.operators.registry import operator_class
from archtool.registry import entries
from tests.export.models import edited, keep, made


@pytest.fixture(scope="module")
def everything():
    """The file with every operator and every encoding at once."""
    operators = tuple((kind, operator_class(kind)) for kind in sorted(entries("operators")))
    encodings = tuple((kind, e) for kind, e in sorted(ENCODINGS.items()) if e is not Dense)
    assert len(operators) >= 9 and encodings
    return _modeling_file(operators, encodings)


def globals_used(table):
    own = {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    return own.union(*(globals_used(child) for child in table.get_children()))


def test_it_imports_only_torch_and_transformers(everything):
    modules = {n.module for n in ast.walk(ast.parse(everything)) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(ast.parse(everything)) if isinstance(n, ast.Import) for a in n.names}
    assert {m.split(".")[0] for m in modules} <= {
        "__future__", "collections", "copy", "dataclasses", "functools", "math", "types", "typing", "torch",
        "transformers",
    }  # fmt: skip


def test_every_name_is_defined_once(everything):
    body = ast.parse(everything).body
    defined = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert len(defined) == len(set(defined))
    table = symtable.symtable(everything, "modeling_archtool.py", "exec")
    known = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()} | set(defined)
    assert {n for n in globals_used(table) if n not in known and not hasattr(builtins, n)} == set()


def test_the_file_is_the_same_for_models_of_a_kind(tmp_path):
    checkpoint = load(made("bert", tmp_path / "bert"))
    other = edited(checkpoint, keep("b0.ffn.hidden", range(9)))
    assert modeling_file(checkpoint.architecture, EncodingPlan()) == modeling_file(other.architecture, EncodingPlan())


OPERATOR = """
LIMIT = {value}

def helper():
    'Ünïcode × → helper'; return LIMIT

class {name}:
    def forward(self, m, x, ctx):
        return helper() + x
"""
BASE = """
def plus(x):
    return x + 1

class Base:
    def forward(self, m, x, ctx):
        return self._inner(plus(x))

    def _inner(self, x):
        return x
"""
DERIVED = """
from base_op import Base

def twice(x):
    return 2 * x

class Derived(Base):
    def _inner(self, x):
        return twice(x)
"""


def test_two_functions_of_one_name_both_arrive(tmp_path, monkeypatch):
    (tmp_path / "first_op.py").write_text(OPERATOR.format(value=1, name="FirstOp"))
    (tmp_path / "second_op.py").write_text(OPERATOR.format(value=2, name="SecondOp"))
    monkeypatch.syspath_prepend(str(tmp_path))
    import first_op
    import second_op

    bundle = Bundle(whole=frozenset({RUNTIME}))
    names = [bundle.operator(first_op.FirstOp, "object"), bundle.operator(second_op.SecondOp, "object")]
    space = {}
    exec(bundle.text("", ""), space)
    assert [space[name]().forward(None, 10, None) for name in names] == [11, 12]
    assert {"helper", "second_op_helper", "LIMIT", "second_op_LIMIT"} <= set(space)


def test_an_inherited_forward_brings_its_own_helpers(tmp_path, monkeypatch):
    (tmp_path / "base_op.py").write_text(BASE)
    (tmp_path / "derived_op.py").write_text(DERIVED)
    monkeypatch.syspath_prepend(str(tmp_path))
    import derived_op

    bundle = Bundle()
    name, space = bundle.operator(derived_op.Derived, "object"), {}
    exec(bundle.text("", ""), space)
    assert space[name]().forward(None, 3, None) == 8
