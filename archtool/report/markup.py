"""HTML that is safe by construction: every string is escaped unless it is `Html` already.

Numbers in the page carry their exact value and the JSON pointer of that value in ``metrics.json``, so that a
test, or a reader with a browser's inspector, can check the page against the data.
"""

import html
import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from archtool.report import units

_VOID = frozenset({"br", "hr", "img", "meta", "link", "col"})


class Html(str):
    """Markup; plain strings are text and will be escaped."""

    __slots__ = ()


Child = str | None | Iterable["Child"]


def text(value: str) -> Html:
    """Plain text as markup."""
    return value if isinstance(value, Html) else Html(html.escape(value, quote=True))


def join(*children: Child) -> Html:
    """Children one after the other; ``None`` is nothing, lists are flattened, text is escaped."""
    return Html("".join(_flat(children)))


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, str):
            yield text(child)
        elif child is not None:
            yield from _flat(child)


def tag(name: str, /, *children: Child, **attributes: str | None) -> Html:
    """An element. ``class_`` gives ``class``, ``data_value`` gives ``data-value``; ``None`` leaves it out."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{pairs}>")
    return Html(f"<{name}{pairs}>{join(*children)}</{name}>")


def number(value: float | None, kind: str, path: str, shown: str | None = None) -> Html:
    """A number of ``metrics.json`` as people read it, or "not measured".

    Args:
        value: the exact number.
        kind: how to format it (`archtool.report.units.show`).
        path: the JSON pointer of the number in ``metrics.json``.
        shown: the text to show instead of the formatted number.
    """
    if value is None:
        return tag("span", "not measured", class_="missing")
    raw = json_number(value)
    label = units.show(value, kind) if shown is None else shown
    return tag("data", label, class_="n", value=raw, data_value=raw, data_path=path, title=raw)


def json_number(value: float) -> str:
    """The number exactly as ``metrics.json`` writes it (without the quotes of a non-finite one)."""
    return json.dumps(value) if value - value == 0 else str(value)


def table(
    head: Sequence[Child],
    rows: Iterable[Iterable[Child]],
    class_: str | None = None,
    words: Collection[int] = (),
) -> Html:
    """A table whose first column holds row headings; ``words`` are the columns of words among numbers."""
    kinds = ["w" if column in words else None for column in range(len(head))]
    names = [tag("th", cell, scope="col", class_=kind) for cell, kind in zip(head, kinds, strict=True)]
    header = tag("thead", tag("tr", names))
    lines = []
    for row in rows:
        first, *rest = row
        cells = [tag("td", cell, class_=kind) for cell, kind in zip(rest, kinds[1:], strict=True)]
        lines.append(tag("tr", tag("th", first, scope="row"), cells))
    return tag("div", tag("table", header, tag("tbody", lines), class_=class_), class_="scroll")


def json_block(value: str, id_: str) -> Html:
    """JSON text as a data block that no markup inside it can end."""
    safe = value.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Html(f'<script type="application/json" id="{text(id_)}">\n{safe}</script>')


def as_html(value: Any) -> Html:
    """Markup that a panel of a plugin returned."""
    return value if isinstance(value, Html) else Html(str(value))
