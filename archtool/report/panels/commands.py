"""Blocks to copy: reproduce, verify, load."""

from archtool.report.data import Command, Report
from archtool.report.markup import Html, join, tag
from archtool.report.panels.panel import Panel


def render(report: Report) -> Html | None:
    """Each command with what it is for; a click selects a whole block."""
    return join([_block(command) for command in report.commands]) if report.commands else None


def _block(command: Command) -> Html:
    note = tag("p", command.note, class_="foot") if command.note else None
    code = tag("pre", tag("code", command.code.strip("\n"), class_=f"language-{command.language}"), tabindex="0")
    return tag("div", tag("h3", command.purpose), code, note, class_="block")


PANEL = Panel("commands", "Reproduce and use", render, "A click selects the whole block.")
