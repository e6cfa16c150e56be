"""The model card (``README.md``) of a written model: YAML front matter, verdict, numbers, commands, limits.

The front matter follows the Hugging Face hub's card format (``base_model``, ``metrics``, ``model-index``).
"""

import html
import math
import re
from typing import Any

from archtool.report import units
from archtool.report.compare import Row
from archtool.report.data import Command, Report
from archtool.report.derive import derived
from archtool.report.panels.limits import all_limits


def model_card(report: Report) -> str:
    """The card as Markdown text; names and notes are escaped, so that they stay text."""
    known = derived(report)
    sections = [
        f"---\n{_front_matter(report)}---",
        f"# {escape(report.title)}",
        escape(known.verdict),
        "## Before and after",
        _table(known.rows, report.parent is not None),
        *_export_lines(report),
        *_command_lines(report.commands),
        *_recipe(report.provenance.recipe),
        *_list("Limits", all_limits(report)),
        *_list("Provenance", _facts(report)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(report: Report) -> str:
    import yaml

    content: dict[str, Any] = {"base_model": report.base_model} if report.base_model else {}
    content["tags"] = ["archtool", "compression", *([report.family] if report.family else [])]
    finite = {name: metric for name, metric in report.child.metrics.items() if math.isfinite(metric.value)}
    if finite:
        content["metrics"] = list(finite)
        results = [{"type": name, "value": metric.value} for name, metric in finite.items()]
        data = ", ".join(report.provenance.data) or "see Provenance"
        result = {
            "task": {"type": report.task or "other"},
            "dataset": {"name": data, "type": "other"},
            "metrics": results,
        }
        content["model-index"] = [{"name": report.child.name, "results": [result]}]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)


def _table(rows: tuple[Row, ...], compared: bool) -> str:
    head = ["", "before", "after", "ratio", ""] if compared else ["", "measured"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rows:
        before, after = (_value(*pair, row.kind) for pair in _pairs(row))
        ratio = "" if row.ratio is None else units.ratio(row.ratio)
        lines.append([row.label, before, after, ratio, row.change] if compared else [row.label, after])
    for group in ("quality", "latency"):
        if not any(row.group == group for row in rows):
            lines.append([group, "not measured", *([""] * (len(head) - 2))])
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def _pairs(row: Row) -> tuple[tuple[float | None, float | None], tuple[float | None, float | None]]:
    return (row.parent, row.parent_error), (row.child, row.child_error)


def _value(value: float | None, error: float | None, kind: str) -> str:
    if value is None:
        return "not measured"
    return units.show(value, kind) + ("" if error is None else f" ± {units.significant(error, 2)}")


def _export_lines(report: Report) -> list[str]:
    checks = []
    for check in report.exports:
        where = f", loads in {check.loads_in}" if check.loads_in else ""
        if check.max_difference is None or check.tolerance is None:
            checks.append(f"{check.dialect}{where}: not verified")
            continue
        difference, tolerance = (units.significant(x, 2) for x in (check.max_difference, check.tolerance))
        checks.append(f"{check.dialect}{where}: largest difference {difference} (tolerance {tolerance})")
    return _list("Export check", checks)


def _command_lines(commands: tuple[Command, ...]) -> list[str]:
    lines = ["## Reproduce and use"] if commands else []
    for command in commands:
        note = f"\n\n{escape(command.note)}" if command.note else ""
        lines.append(f"{escape(command.purpose)}:\n\n{fenced(command.code, command.language)}{note}")
    return lines


def _recipe(recipe: str) -> list[str]:
    return ["## Recipe", fenced(recipe, "yaml")] if recipe else []


def _list(title: str, items: list[str]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {escape(item)}" for item in items)] if items else []


def _facts(report: Report) -> list[str]:
    known = report.provenance
    facts = [f"seed: {known.seed}"] if known.seed is not None else []
    facts += [f"started: {known.started}"] if known.started else []
    groups = {"input": known.inputs, "output": known.outputs, "data": known.data, "version": known.versions}
    for kind, items in groups.items():
        facts += [f"{kind}: {name}: {value}" for name, value in items.items()]
    return facts


def escape(value: str) -> str:
    """Text as Markdown that shows it: one line, no markup, no table break."""
    flat = " ".join(value.split())
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", html.escape(flat, quote=False))


def fenced(code: str, language: str) -> str:
    """A code block whose fence is longer than any in the code."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    name = re.sub(r"[^\w+-]", "", language)
    return f"{fence}{name}\n{code.strip(chr(10))}\n{fence}"
