"""A report in a run folder: ``metrics.json`` is the source, page and table are drawn from it."""

from collections.abc import Sequence
from pathlib import Path

from archtool.checkpoint.atomic import atomic_file
from archtool.errors import InputError
from archtool.report.codec import dumps, loads
from archtool.report.data import Report
from archtool.report.page import render_html
from archtool.report.panels import Panel
from archtool.report.rows import to_csv

JSON_NAME, HTML_NAME, CSV_NAME = "metrics.json", "report.html", "report.csv"


def write_report(report: Report, folder: Path, extra_panels: Sequence[Panel] = ()) -> Path:
    """Write ``metrics.json``, ``report.csv`` and ``report.html``, each whole or not at all.

    Returns:
        The path of the page.

    Raises:
        ResourceError: the folder cannot be written.
    """
    _write(folder / JSON_NAME, dumps(report))
    _write(folder / CSV_NAME, to_csv(report))
    _write(folder / HTML_NAME, render_html(report, extra_panels))
    return folder / HTML_NAME


def read_report(folder: Path) -> Report:
    """Read the report of a run folder.

    Raises:
        InputError: there is no ``metrics.json``, or it is not a report.
    """
    path = folder / JSON_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read: {error}.", hint="Give the folder that a run wrote with --out."
        ) from error
    return loads(text, str(path))


def render(folder: Path, extra_panels: Sequence[Panel] = ()) -> Path:
    """Draw ``report.html`` and ``report.csv`` again from ``metrics.json``: the same bytes for the same data.

    Returns:
        The path of the page.

    Raises:
        InputError: there is no ``metrics.json``, or it is not a report.
        ResourceError: the folder cannot be written.
    """
    report = read_report(folder)
    _write(folder / CSV_NAME, to_csv(report))
    _write(folder / HTML_NAME, render_html(report, extra_panels))
    return folder / HTML_NAME


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
