"""YAML that remembers where everything stands.

`load_yaml` reads one safe document and keeps the line and column of each key and value, so that any later
complaint about a value can point at it. Duplicate keys, merge keys and self-referring anchors are errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archtool.errors import ArchtoolError, ErrorList, RecipeError, Where

Loc = tuple[str | int, ...]
MAX_NODES = 100_000


@dataclass
class Document:
    """Plain data with the place of every key and value.

    Attributes:
        file: where it came from (a path, or a name such as ``--set``).
        data: dicts, lists and scalars.
        keys: location → place of the key (for list items: of the item).
        values: location → place of the value.
    """

    file: Path
    text: str
    data: Any = None
    keys: dict[Loc, Where] = field(default_factory=dict)
    values: dict[Loc, Where] = field(default_factory=dict)

    def where_key(self, loc: Sequence[str | int]) -> Where | None:
        """The place of the key at ``loc``, or of the closest thing around it."""
        return self._nearest(tuple(loc), self.keys)

    def where_value(self, loc: Sequence[str | int]) -> Where | None:
        """The place of the value at ``loc``, or of the closest thing around it."""
        return self._nearest(tuple(loc), self.values)

    def _nearest(self, loc: Loc, first: dict[Loc, Where]) -> Where | None:
        for length in range(len(loc), -1, -1):
            place = first.get(loc[:length]) or self.values.get(loc[:length])
            if place is not None:
                return place
            first = self.keys
        return None


def load_yaml(path: Path) -> Document:
    """Read a YAML file; raises `RecipeError` (or several) with line and column."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        hint = "check the path; `archtool recipes ls` shows the recipes that ship with archtool"
        raise RecipeError(f"cannot read {path}: {problem.strerror}", hint=hint) from problem
    except UnicodeDecodeError as problem:
        raise RecipeError(f"{path} is not UTF-8 text (byte {problem.start})") from problem
    return parse_yaml(text, path)


def parse_yaml(text: str, file: Path) -> Document:
    """Parse YAML text; ``file`` is only named in messages."""
    import yaml

    document = Document(file, text)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        raise _syntax_error(document, problem) from problem
    except yaml.YAMLError as problem:
        raise RecipeError(f"{file} is not YAML: {problem}", hint="save it as UTF-8 text") from problem
    if root is None:
        return document
    reader = _Reader(document)
    document.data = reader.read(root, ())
    if reader.problems:
        raise ErrorList(reader.problems)
    return document


def place(document: Document, mark: Any) -> Where:
    """A YAML mark as a place with its line of text."""
    lines = document.text.splitlines()
    text = lines[mark.line] if mark.line < len(lines) else ""
    return Where(document.file, mark.line + 1, mark.column + 1, text)


def _syntax_error(document: Document, problem: Any) -> RecipeError:
    mark = problem.problem_mark or problem.context_mark
    what = f"not valid YAML: {problem.problem or problem.context}"
    hint = "check indentation, colons and quotes around this place"
    return RecipeError(what, hint, place(document, mark) if mark else None)


class _Reader:
    """Turns composed nodes into data, noting places and collecting problems."""

    def __init__(self, document: Document) -> None:
        import yaml

        self.document = document
        self.problems: list[ArchtoolError] = []
        self.constructor = yaml.SafeLoader("")
        self.count = 0
        self.open: set[int] = set()

    def read(self, node: Any, loc: Loc) -> Any:
        import yaml

        self.count += 1
        if self.count > MAX_NODES:
            raise RecipeError(f"more than {MAX_NODES} values", "is this file a recipe?", self._at(node))
        self.document.values[loc] = self._at(node)
        if id(node) in self.open:
            raise RecipeError("an anchor that contains itself", "write the value out", self._at(node))
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, loc)
            if isinstance(node, yaml.SequenceNode):
                return [self._item(item, (*loc, i)) for i, item in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self.open.discard(id(node))

    def _item(self, node: Any, loc: Loc) -> Any:
        self.document.keys[loc] = self._at(node)
        return self.read(node, loc)

    def _mapping(self, node: Any, loc: Loc) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key is None:
                continue
            if key in found:
                first = self.document.keys[(*loc, key)].line
                self._problem(f"`{key}` is given twice", f"the first one is in line {first}", key_node)
                continue
            self.document.keys[(*loc, key)] = self._at(key_node)
            found[key] = self.read(value_node, (*loc, key))
        return found

    def _key(self, node: Any) -> str | None:
        if node.tag == "tag:yaml.org,2002:merge":
            self._problem("merge keys (`<<`) are not supported", "write the keys out", node)
            return None
        if not isinstance(node.value, str):
            self._problem("a key must be a word", "did a `-` or a quote go missing?", node)
            return None
        return node.value

    def _scalar(self, node: Any) -> Any:
        import yaml

        try:
            return self.constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as problem:
            detail = getattr(problem, "problem", None) or problem
            self._problem(f"cannot read this value: {detail}", "put it in quotes if it is text", node)
            return None

    def _at(self, node: Any) -> Where:
        return place(self.document, node.start_mark)

    def _problem(self, what: str, hint: str, node: Any) -> None:
        self.problems.append(RecipeError(what, hint, self._at(node)))
