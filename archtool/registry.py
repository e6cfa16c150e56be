"""What archtool knows by name: families, operators, zoo, steps, criteria, transforms, runtimes, panels, tasks.

A registry entry is a *string* target ``module:attribute``, so that listing names imports nothing. Built-ins
come from one table (`archtool.builtins`), everything else from entry points of installed packages. A target
may be the object itself or a `Capability`: a small torch-free record that describes the object and says
where it is; `Entry.load` follows it. A broken plugin is listed with its error, never hidden.
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from archtool.errors import ArchtoolError, ResourceError, UsageError

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "families": "archtool.families",
        "operators": "archtool.operators",
        "zoo": "archtool.zoo",
        "constructs": "archtool.constructs",
        "steps": "archtool.steps",
        "transforms": "archtool.transforms",
        "criteria": "archtool.criteria",
        "searchers": "archtool.searchers",
        "runtimes": "archtool.runtimes",
        "tasks": "archtool.tasks",
        "report_panels": "archtool.report_panels",
    }
)
"""Registry kind → entry-point group."""

_SINGULAR = {kind: kind.replace("_", " ").removesuffix("s") for kind in GROUPS} | {
    "families": "family",
    "criteria": "criterion",
    "zoo": "zoo architecture",
}


@dataclass(frozen=True)
class Capability:
    """A torch-free description of something heavy.

    Args:
        target: ``module:attribute`` of the thing itself, imported only when it is used.
        summary: one sentence for listings.
        facts: what it can do, as plain words (for example ``{"axes": "ffn, heads", "exact": "yes"}``).
    """

    target: str
    summary: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One registered name; ``package`` is the distribution that brought it."""

    kind: str
    name: str
    target: str
    package: str
    summary: str = ""

    def load(self) -> Any:
        """Import and return the object; raises `ResourceError` naming package and cause when that fails."""
        found = self._import(self.target)
        return self._import(found.target) if isinstance(found, Capability) else found

    def capability(self) -> Capability:
        """The torch-free record, made from the table where the plugin gives none."""
        found = self._import(self.target)
        if isinstance(found, Capability):
            return found
        return Capability(self.target, self.summary or first_line(getattr(found, "__doc__", "")))

    def error(self) -> str:
        """Why this entry does not load, or an empty string when it does."""
        try:
            self.load()
        except ArchtoolError as problem:
            return problem.what
        return ""

    def _import(self, target: str) -> Any:
        try:
            return resolve(target)
        except Exception as cause:  # any failure inside a plugin's module is that plugin's, and is reported
            raise ResourceError(
                f"{self.kind} entry `{self.name}` of package {self.package} does not load: "
                f"{type(cause).__name__}: {cause}",
                hint=f"reinstall or remove {self.package}; `archtool plugins` lists all entries",
            ) from cause


def first_line(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().partition("\n")[0]


def resolve(target: str) -> Any:
    """Import ``module:attribute.path`` and return the object."""
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in filter(None, path.split(".")):
        found = getattr(found, name)
    return found


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else ""


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint line: the closest known name when there is one, then all of them."""
    names = sorted(known)
    close = did_you_mean(name, names)
    listing = f"known: {', '.join(names)}" if names else "none is installed"
    return f"did you mean `{close}`? ({listing})" if close else listing


@cache
def entries(kind: str) -> Mapping[str, Entry]:
    """All entries of one kind by name; of a name that two packages give, the first (see `duplicates`)."""
    return MappingProxyType({entry.name: entry for entry in reversed(_all(kind))})


@cache
def duplicates(kind: str) -> Mapping[str, UsageError]:
    """The names that more than one package gives, each with the error that names them."""
    first = entries(kind)
    clashes = [entry for entry in _all(kind) if entry != first[entry.name]]
    return MappingProxyType({entry.name: _duplicate(first[entry.name], entry) for entry in clashes})


def lookup(kind: str, name: str) -> Entry:
    """The entry called ``name``; raises `UsageError` for no such name (with a suggestion) or two."""
    known = entries(kind)
    if name in duplicates(kind):
        raise duplicates(kind)[name]
    if name not in known:
        raise UsageError(f"unknown {_SINGULAR[kind]} `{name}`", hint=suggestion(name, known))
    return known[name]


def load(kind: str, name: str) -> Any:
    """Look ``name`` up and import it."""
    return lookup(kind, name).load()


def _all(kind: str) -> list[Entry]:
    return [*_builtin(kind), *_installed(kind)]


def _builtin(kind: str) -> list[Entry]:
    from archtool.builtins import BUILTINS

    return [Entry(kind, name, target, "archtool", text) for name, (target, text) in BUILTINS[kind].items()]


def _installed(kind: str) -> list[Entry]:
    unique = {(_package(point), point.name, point.value): point for point in entry_points(group=GROUPS[kind])}
    return [Entry(kind, name, value, package) for package, name, value in sorted(unique)]


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown package"


def _duplicate(first: Entry, second: Entry) -> UsageError:
    return UsageError(
        f"two packages register the {first.kind} entry `{first.name}`: "
        f"{first.package} ({first.target}) and {second.package} ({second.target})",
        hint=f"uninstall one of {first.package}, {second.package}",
    )
