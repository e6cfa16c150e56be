"""One Python file from several modules: a runtime module and the parts of others that it and its operators use.

The maths of an operator is written once, in its own file. Here its ``forward`` is cut out of that file together
with the functions that it calls, wherever they are defined, so that the shipped file imports nothing of archtool.
Functions and classes keep their source text; a name that two modules use gets its module's name in front.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec, module_from_spec
from types import ModuleType

from archtool.ir.operator import Operator

OWN = "archtool"
OUTSIDE = ("torch", "transformers")
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Source:
    """A module's text with its top-level definitions and imports by name; the module itself is not imported."""

    name: str

    @cached_property
    def text(self) -> bytes:
        """The file as UTF-8 (columns of the syntax tree count bytes)."""
        return inspect.getsource(sys.modules.get(self.name) or _unexecuted(self.name)).encode("utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def definitions(self) -> Mapping[str, Definition]:
        """Functions, classes and constants by name."""
        found: dict[str, Definition] = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = node
        return found

    @cached_property
    def outside(self) -> Mapping[str, tuple[str, str]]:
        """Name → (module, name there; "" for the module itself), for imports at the top and in functions."""
        found: dict[str, tuple[str, str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.update({a.asname or a.name: (node.module, a.name) for a in node.names})
            elif isinstance(node, ast.Import):
                found.update({a.asname or a.name.split(".")[0]: (a.name, "") for a in node.names})
        return found


@dataclass
class Bundle:
    """Collects definitions in the order in which they may stand in one file."""

    chunks: list[str] = field(default_factory=list)
    imports: dict[tuple[str, str, str], None] = field(default_factory=dict)
    final: dict[tuple[str, str], str] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()

    def source(self, module: str) -> Source:
        """A module's source, parsed once."""
        if module not in self.sources:
            self.sources[module] = Source(module)
        return self.sources[module]

    def need(self, module: str, name: str) -> str:
        """Have a definition in the file; returns its name there."""
        if (module, name) in self.final:
            return self.final[module, name]
        source = self.source(module)
        if name not in source.definitions:
            return self.imported(source, name)
        taken = name in self.final.values()
        made = self.final[module, name] = f"{module.rpartition('.')[2]}_{name.strip('_')}" if taken else name
        node = source.definitions[name]
        self.chunks.append(self.segment(source, [node], {name: made}))
        return made

    def imported(self, source: Source, name: str) -> str:
        """A name that a module imports: its definition, where it is ours; else an import line."""
        if name not in source.outside:
            return name
        module, original = source.outside[name]
        if module.split(".")[0] == OWN:
            there = self.source(module)
            if original not in there.definitions and original not in there.outside:
                raise TypeError(f"{source.name}: {name} is a module; import its functions by name")
            return self.need(module, original)
        self.imports.setdefault((module, original, name))
        return name

    def segment(self, source: Source, nodes: Sequence[ast.AST], renamed: Mapping[str, str]) -> str:
        """The text of some nodes with the names that they use brought into the file."""
        hints = {id(n) for node in nodes for n in _annotated(node)}
        local = {a for node in nodes for a in _bound(node)}
        names = {n.id for node in nodes for n in _used(node) if id(n) not in hints}
        mapping = dict(renamed)
        for name in sorted(names - local - set(renamed)):
            if not hasattr(builtins, name):
                mapping[name] = self.need(source.name, name)
        types = {n.id: self.hint(source, n.id) for node in nodes for n in _used(node) if id(n) in hints}
        return "\n\n".join(_text(source, node, mapping, types, hints) for node in nodes)

    def hint(self, source: Source, name: str) -> str:
        """A type's name in an annotation: ``Any`` for types of ours that are not needed at run time."""
        module = source.outside.get(name, (source.name if name in source.definitions else "", ""))[0]
        if not module.startswith(OWN):
            return self.imported(source, name)
        if module in self.whole:
            return name
        self.imports.setdefault(("typing", "Any", "Any"))
        return "Any"

    def function(self, function: object, name: str) -> None:
        """A decorated or anonymous function under a name of its own (a registered decoder)."""
        source = self.source(function.__module__)
        line = inspect.unwrap(function).__code__.co_firstlineno  # type: ignore[arg-type,attr-defined]
        node = next(n for n in source.tree.body if isinstance(n, ast.FunctionDef) and _first_line(n) == line)
        decorated, node.decorator_list = node.decorator_list, []
        body = self.segment(source, [node], {})
        node.decorator_list = decorated
        self.chunks.append(body.replace(f"def {node.name}(", f"def {name}(", 1))

    def operator(self, cls: type, base: str, entry: Sequence[str] = ("forward", "out_flow")) -> str:
        """A class reduced to some methods and what they call on itself; returns the class' name."""
        name = cls.__name__ if cls.__name__ not in self.final.values() else f"{cls.__module__.rpartition('.')[2]}_op"
        self.final[cls.__module__, f"class {cls.__name__}"] = name
        body = [
            _indent(self.segment(self.source(owner.__module__), [node], {}), node.col_offset)
            for owner, node in self.methods(cls, entry)
        ]
        doc = (cls.__doc__ or cls.__name__).strip().splitlines()[0]
        self.chunks.append(f'class {name}({base}):\n    """{doc}"""\n\n' + "\n\n".join(body))
        return name

    def methods(self, cls: type, entry: Sequence[str]) -> Iterator[tuple[type, ast.FunctionDef]]:
        """Methods and what they reach through ``self``, each with the class that defines it; not `Operator`'s own."""
        seen = [name for name in entry if next((c for c in cls.__mro__ if name in vars(c)), Operator) is not Operator]
        for name in seen:
            owner = next(c for c in cls.__mro__ if name in vars(c))
            node = _method(self.source(owner.__module__).definitions[owner.__name__], name)
            yield owner, node
            reached = [n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and _is_self(n.value)]
            seen += [a for a in dict.fromkeys(reached) if a not in seen and inspect.isfunction(getattr(cls, a, None))]

    def text(self, header: str, footer: str) -> str:
        """The whole file."""
        lines = "\n".join(_import_lines(self.imports))
        return header + lines + "\n\n\n" + "\n\n\n".join(self.chunks) + "\n\n\n" + footer


def _unexecuted(name: str) -> ModuleType:
    """A module that inspection can find the file of; its code, which may import what is slow, has not run."""
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(name)
    return module_from_spec(spec)


def _import_lines(imports: Iterable[tuple[str, str, str]]) -> Iterator[str]:
    """Import statements, the standard library first, one line for each module."""
    grouped: dict[str, list[str]] = {}
    for module, original, name in sorted(imports):
        if original:
            said = original if original == name else f"{original} as {name}"
            grouped.setdefault(f"from {module} import ", []).append(said)
        else:
            same = name == module.split(".")[0]
            grouped.setdefault(f"import {module}" if same else f"import {module} as {name}", [])
    for start in sorted(grouped, key=lambda line: (line.split()[1].split(".")[0] in OUTSIDE, line.split()[1])):
        yield start + ", ".join(grouped[start])


def _method(node: Definition, name: str) -> ast.FunctionDef:
    assert isinstance(node, ast.ClassDef)
    return next(item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == name)


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _used(node: ast.AST) -> Iterator[ast.Name]:
    """Every name in a node."""
    return (n for n in ast.walk(node) if isinstance(n, ast.Name))


def _annotated(node: ast.AST) -> Iterator[ast.Name]:
    """The names in a node's annotations."""
    for n in ast.walk(node):
        hints = (getattr(n, "annotation", None), getattr(n, "returns", None))
        for hint in hints:
            if isinstance(hint, ast.AST):
                yield from _used(hint)


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a function or class binds itself: arguments, assignments, imports from elsewhere.

    The names of methods are no plain names.
    """
    methods = {id(item) for n in ast.walk(node) if isinstance(n, ast.ClassDef) for item in n.body}
    for n in ast.walk(node):
        if isinstance(n, ast.arg):
            yield n.arg
        elif isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load) and n is not node:
            yield n.id
        elif isinstance(n, ast.Import):
            yield from (a.asname or a.name.split(".")[0] for a in n.names)
        elif isinstance(n, ast.ImportFrom) and not str(n.module).startswith(OWN):
            yield from (a.asname or a.name for a in n.names)
        elif isinstance(n, ast.FunctionDef | ast.ClassDef) and n is not node and id(n) not in methods:
            yield n.name


def _text(source: Source, node: ast.AST, names: Mapping[str, str], types: Mapping[str, str], hints: set[int]) -> str:
    """A node's lines with names (in annotations: types) replaced and our own imports left out."""
    first, last = _lines(node)
    lines = source.text.split(b"\n")
    for name in sorted(_used(node), key=lambda n: (n.lineno, n.col_offset), reverse=True):
        mapping = types if id(name) in hints else names
        lines[name.lineno - 1] = _replaced(lines[name.lineno - 1], name.col_offset, name.id, mapping)
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and names.get(node.name, node.name) != node.name:
        lines[node.lineno - 1] = lines[node.lineno - 1].replace(node.name.encode(), names[node.name].encode(), 1)
    gone = {
        line
        for n in ast.walk(node)
        if isinstance(n, ast.ImportFrom) and str(n.module).startswith(OWN)
        for line in range(n.lineno, (n.end_lineno or n.lineno) + 1)
    }
    kept = [lines[i - 1] for i in range(first, last + 1) if i not in gone]
    return b"\n".join(kept).decode("utf-8")


def _lines(node: ast.AST) -> tuple[int, int]:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])  # type: ignore[attr-defined]
    return first, node.end_lineno  # type: ignore[attr-defined]


def _replaced(line: bytes, column: int, name: str, mapping: Mapping[str, str]) -> bytes:
    new = mapping.get(name, name)
    return line if new == name else line[:column] + new.encode() + line[column + len(name.encode()) :]


def _indent(text: str, have: int) -> str:
    """Method text as it stands in a class at the top level."""
    return text if have == 4 else "\n".join(("    " + line) if line else line for line in text.splitlines())
