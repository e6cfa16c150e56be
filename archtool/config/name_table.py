"""A name table of the user's own: a checkpoint that no library knows, read as a model of a known family.

The table (YAML) names the family, gives the configuration, and says for every tensor of the file which of the
family's tensors are in it, in which layout. It is checked against the family and against the file before a weight
is read; every mistake is reported with its line and column. What is loaded is an ordinary `Checkpoint`, which is
saved under the family's own names with the given configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archtool.checkpoint.folder import read_config, resolve
from archtool.checkpoint.store import TensorStore, open_store
from archtool.config.document import Document, Loc, load_yaml
from archtool.config.name_layout import Layout, check_placeholders, matcher, parse_layout, placeholders
from archtool.config.name_match import (
    Expansion,
    Row,
    Target,
    claim_problems,
    near,
    shape_problems,
    some,
    targets,
)
from archtool.errors import ArchtoolError, ErrorList, InputError, RecipeError
from archtool.families.base import Family
from archtool.families.registry import family_named, model_types
from archtool.families.user_names import Shape, unfold
from archtool.ir.encodings import EncodingPlan
from archtool.model.checkpoint import Checkpoint, Source
from archtool.model.load import bind
from archtool.model.renamed import RenamedStore, View, promoted
from archtool.registry import suggestion

KEYS = ("family", "config", "tensors", "ignore", "tokenizer")
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True)
class NameTable:
    """A name table as written.

    Attributes:
        family: which family reads ``config``.
        config: as in a ``config.json``; empty: the one beside the weights.
        tensors: a file tensor's name (or pattern) → what is in it.
        ignore: file tensors (or patterns) that are left out.
        tokenizer: a scored-BPE ``.bin`` file or a folder, as written; empty: none.
    """

    document: Document
    family: Family
    config: Mapping[str, Any]
    tensors: Mapping[str, Layout]
    ignore: tuple[str, ...] = ()
    tokenizer: str = ""
    problems: list[ArchtoolError] = field(default_factory=list)


def load_with_names(path: str | Path, names: str | Path) -> Checkpoint:
    """Open a weight file, or a folder with one, through a name table; reads no weights.

    Args:
        path: the weights; a ``config.json`` beside them is needed only where the table gives no ``config``.
        names: the table's file.

    Raises:
        RecipeError: a mistake in the table (several: `ErrorList`), with line and column.
        InputError: a file that does not hold what the table says.
    """
    table = read_name_table(Path(names))
    place = resolve(str(path))
    folder = place if place.is_dir() else place.parent
    store = open_store(place)
    config = table.config or {"model_type": table.family.model_types[0], **read_config(folder)}
    tokenizer = _tokenizer(table, folder)
    return _bind(table, store, Source(folder, config, ignored=_ignored(table, store), tokenizer=tokenizer))


def read_name_table(path: Path) -> NameTable:
    """Read a table and check what can be checked without the weights; raises as `load_with_names`."""
    document = load_yaml(path)
    data = document.data
    if not isinstance(data, dict):
        raise RecipeError("this is not a name table: expected family, config and tensors", "", document.where_value(()))
    problems: list[ArchtoolError] = [
        RecipeError(f"unknown key `{key}`", suggestion(key, KEYS), document.where_key((key,)))
        for key in data
        if key not in KEYS
    ]
    tensors = _tensors(document, data.get("tensors"), problems)
    ignore = _ignore(document, data.get("ignore", []), problems)
    tokenizer = data.get("tokenizer", "")
    if not isinstance(tokenizer, str):
        where = document.where_value(("tokenizer",))
        problems.append(RecipeError(f"`tokenizer` is a file or a folder, not {tokenizer!r}", "", where))
    family = _family(document, data.get("family"), problems)
    config = _config(document, data.get("config"), family, problems)
    _raise(problems)
    assert family is not None
    return NameTable(document, family, config, tensors, ignore, tokenizer)


def _raise(problems: Sequence[ArchtoolError]) -> None:
    ordered = sorted(problems, key=lambda p: (p.where.line, p.where.column) if p.where else (0, 0))
    if ordered:
        raise ordered[0] if len(ordered) == 1 else ErrorList(ordered)


def _family(document: Document, name: Any, problems: list[ArchtoolError]) -> Family | None:
    known = sorted(set(model_types().values()))
    if name in known:
        return family_named(name)
    where = document.where_value(("family",))
    what = "`family` is missing" if name is None else f"unknown family `{name}`"
    problems.append(RecipeError(what, suggestion(str(name), known), where))
    return None


def _config(document: Document, given: Any, family: Family | None, problems: list[ArchtoolError]) -> dict[str, Any]:
    where = document.where_value(("config",))
    if given is None and "config" not in (document.data or {}):
        return {}
    if not isinstance(given, dict) or not given:
        hint = "indent its keys below it, or leave it out to take the config.json beside the weights"
        problems.append(RecipeError("`config` is a mapping such as config.json holds", hint, where))
        return {}
    config = {key: _numbers(document, value, ("config", key)) for key, value in given.items()}
    if family is None:
        return config
    kind = config.setdefault("model_type", family.model_types[0])
    if kind not in family.model_types:
        hint = suggestion(str(kind), family.model_types)
        where = document.where_value(("config", "model_type"))
        problems.append(RecipeError(f"model_type {kind!r} is not of the {family.name} family", hint, where))
    return config


def _numbers(document: Document, value: Any, loc: Loc) -> Any:
    """``1e-5`` is text in YAML and a number in JSON; the configuration means JSON's unless it is quoted."""
    if isinstance(value, dict):
        return {key: _numbers(document, inner, (*loc, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(document, inner, (*loc, index)) for index, inner in enumerate(value)]
    where = document.where_value(loc)
    if isinstance(value, str) and where and where.text[where.column - 1 :][:1] not in "'\"":
        return float(value) if _EXPONENT.fullmatch(value) else value
    return value


def _tensors(document: Document, given: Any, problems: list[ArchtoolError]) -> dict[str, Layout]:
    if not isinstance(given, dict) or not given:
        hint = "for example `tok: model.embed_tokens.weight`, one line per tensor of the file"
        what = "`tensors` must map the file's tensor names to the family's"
        problems.append(RecipeError(what, hint, document.where_key(("tensors",))))
        return {}
    layouts: dict[str, Layout] = {}
    for file, value in given.items():
        try:
            layouts[file] = parse_layout(document, value, ("tensors", file))
            check_placeholders(document, layouts[file], placeholders(file))
        except RecipeError as problem:
            problems.append(problem)
    return layouts


def _ignore(document: Document, given: Any, problems: list[ArchtoolError]) -> tuple[str, ...]:
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        return tuple(given)
    what = "`ignore` is a list of the file's tensor names"
    problems.append(RecipeError(what, "for example `ignore: [freq_cos, freq_sin]`", document.where_value(("ignore",))))
    return ()


def _tokenizer(table: NameTable, folder: Path) -> Path | None:
    """The tokenizer beside the weights, the table, or here."""
    if not table.tokenizer:
        return None
    where = table.document.where_value(("tokenizer",))
    for base in (folder, table.document.file.parent, Path()):
        found = base / Path(table.tokenizer).expanduser()
        if found.is_dir() or (found.is_file() and found.suffix == ".bin"):
            return found
        if found.exists():
            hint = "give a folder with tokenizer.json, or a scored-BPE file that ends in .bin"
            raise RecipeError(f"`{table.tokenizer}` is not a tokenizer that can be read", hint, where)
    hint = f"looked beside the weights ({folder}), beside the table and in the current folder"
    raise RecipeError(f"there is no tokenizer `{table.tokenizer}`", hint, where)


def _ignored(table: NameTable, store: TensorStore) -> tuple[str, ...]:
    """The file tensors that the table leaves out; a pattern that fits none is an error."""
    found: dict[str, None] = {}
    problems: list[ArchtoolError] = []
    for index, pattern in enumerate(table.ignore):
        fitting = [name for name in store.infos if matcher(pattern).fullmatch(name)]
        found.update(dict.fromkeys(fitting))
        if not fitting:
            where = table.document.where_value(("ignore", index))
            what = f"{_file(store)} has no tensor `{pattern}` that could be ignored"
            problems.append(InputError(what, near(pattern, store.infos), where))
    _raise(problems)
    return tuple(found)


def _bind(table: NameTable, store: TensorStore, source: Source) -> Checkpoint:
    arch = _architecture(table, store, source.config)
    known = targets(arch, table.family)
    expansion = Expansion(table.document, known, arch)
    rows = [row for file, lay in table.tensors.items() for row in expansion.row(file, lay, ("tensors", file))]
    _raise(expansion.problems)
    _raise(
        [
            *claim_problems(table.document, rows, known),
            *_file_problems(table, rows, store, source.ignored),
            *shape_problems(table.document, rows, known, {n: info.shape for n, info in store.infos.items()}),
        ]
    )
    views = _views(rows, known, store)
    entries = [known[name].entry for name in known if name in views]
    return bind(RenamedStore(store, views), arch, EncodingPlan(), table.family, source, entries)


def _architecture(table: NameTable, store: TensorStore, config: Mapping[str, Any]) -> Any:
    """The family's reading of the configuration; a complaint points at the key that it names."""
    try:
        return table.family.read(config, _shapes(table, store))
    except InputError as problem:
        if not table.config:
            raise
        named = (key for key in table.config if re.search(rf"\b{re.escape(key)}\b", problem.what))
        key = next((key for key in named if table.document.where_key(("config", key))), None)
        where = table.document.where_key(("config", key) if key else ("config",))
        raise RecipeError(problem.what.replace("config.json", "config", 1), problem.hint, where) from problem


def _shapes(table: NameTable, store: TensorStore) -> dict[str, Shape]:
    """What a family looks at besides the configuration: the names (with 0 for placeholders) and likely shapes."""
    found: dict[str, Shape] = {}
    for file, layout in table.tensors.items():
        shape = next((info.shape for name, info in store.infos.items() if matcher(file).fullmatch(name)), ())
        for leaf, size in _leaf_shapes(layout, shape):
            if size:
                found[re.sub(r"\{\w+\}", "0", leaf)] = size
    return found


def _leaf_shapes(layout: Layout, shape: Shape) -> list[tuple[str, Shape]]:
    shape = shape[layout.lead :]
    if layout.kind == "stack":
        shape = shape[1:]
    shape = shape[::-1] if layout.transpose else shape
    if layout.kind == "one":
        return [(layout.name, shape)]
    if layout.kind == "fuse" and shape:
        shape = (shape[0] // len(layout.parts), *shape[1:])
    return [found for part in layout.parts for found in _leaf_shapes(part, shape)]


def _file_problems(
    table: NameTable, rows: Sequence[Row], store: TensorStore, ignored: Sequence[str]
) -> list[ArchtoolError]:
    """Rows for tensors that the file lacks, has ignored or has twice, and tensors of the file in no row."""
    document, problems, seen = table.document, list[ArchtoolError](), dict[str, Row]()
    free = [name for name in store.infos if name not in {row.file for row in rows} and name not in ignored]
    for row in rows:
        where = document.where_key(row.loc)
        if row.file not in store.infos:
            problems.append(InputError(f"{_file(store)} has no tensor `{row.file}`", near(row.file, free), where))
        if row.file in ignored:
            problems.append(RecipeError(f"`{row.file}` is both mapped and ignored", "remove one of the two", where))
        if row.file in seen:
            problems.append(RecipeError(f"`{row.file}` is in two rows", "remove one of the two", where))
        seen[row.file] = row
    if free:
        listed = some([f"{name} {list(store.infos[name].shape)}" for name in free])
        what = f"{len(free)} tensors of {_file(store)} are in no row: {listed}"
        hint = "add them under `tensors`, or list them under `ignore` to leave them out"
        problems.append(InputError(what, hint, document.where_key(("tensors",))))
    return problems


def _views(rows: Sequence[Row], known: Mapping[str, Target], store: TensorStore) -> dict[str, View]:
    shapes = {name: target.shape for name, target in known.items()}
    views = {
        name: View(row.file, tuple(steps), shapes[name]) for row in rows for name, steps in unfold(row.node, shapes)
    }
    wholes: dict[str, list[str]] = {}
    for name in views:
        wholes.setdefault(known[name].whole, []).append(name)
    return promoted(views, store, [names for names in wholes.values() if len(names) > 1])


def _file(store: TensorStore) -> str:
    return store.shards[0].filename if len(store.shards) == 1 else "the checkpoint"
