"""The page: one HTML file that needs no network and no script, drawn from a `Report` alone.

The page's policy forbids every request and every script; light and dark follow the reader's system; the
data it was drawn from is in it. The same report gives the same bytes.
"""

from collections.abc import Sequence
from importlib.resources import files

from archtool import __version__
from archtool.report.codec import dumps
from archtool.report.data import Report
from archtool.report.markup import Html, as_html, join, json_block, tag
from archtool.report.panels import Panel, overview, panels

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render_html(report: Report, extra_panels: Sequence[Panel] = ()) -> str:
    """The whole page.

    Args:
        report: what to show.
        extra_panels: panels of plugins. One that fails is shown with its error; the rest stays readable.

    Raises:
        UsageError: two panels have the same name.
    """
    names = {panel.name for panel in extra_panels}
    drawn = [(panel, _body(panel, report, panel.name in names)) for panel in panels(extra_panels)]
    shown = [(panel, body) for panel, body in drawn if body is not None]
    main = tag("main", overview.render(report), _contents([panel for panel, _ in shown]), map(_section, shown))
    body = tag("body", tag("div", main, _footer(), class_="page"), json_block(dumps(report), "metrics"))
    return f"<!DOCTYPE html>\n{tag('html', _head(report), body, lang='en')}\n"


def _body(panel: Panel, report: Report, foreign: bool) -> Html | None:
    if not foreign:
        drawn = panel.render(report)
    else:
        try:
            drawn = panel.render(report)
        except Exception as error:  # a plugin's fault must not take the report with it; it is shown instead
            return tag("p", f"This panel failed: {type(error).__name__}: {error}", class_="mark bad")
    return None if drawn is None else as_html(drawn)


def _section(shown: tuple[Panel, Html]) -> Html:
    panel, body = shown
    note = tag("p", panel.note, class_="note") if panel.note else None
    heading = tag("div", tag("h2", panel.title), note, class_="heading")
    return tag("section", heading, tag("div", body, class_="body"), class_="panel", id=panel.name)


def _contents(shown: list[Panel]) -> Html:
    links = [tag("a", panel.title, href=f"#{panel.name}") for panel in shown]
    return tag("nav", links, aria_label="Contents")


def _footer() -> Html:
    return tag(
        "footer",
        f"archtool {__version__}. MB = 10⁶ bytes; a MAC is one multiply-add. Hover over a number for its "
        "exact value. The data of this page is in it (“metrics”) and beside it: metrics.json, report.csv.",
    )


def _head(report: Report) -> Html:
    style = files("archtool.report").joinpath("style.css").read_text(encoding="utf-8")
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{report.title} · archtool"),
        join(Html(f"<style>\n{style}</style>")),
    )
