"""Reading pages back: a strict little HTML parser and JSON pointers."""

from html.parser import HTMLParser
from typing import Any

VOID = {"br", "hr", "img", "meta", "link", "col"}


class Page(HTMLParser):
    """Collects elements, numbers and problems of nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.problems: list[str] = []
        self.numbers: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        self.problems += [f"unclosed {name}" for name in self.stack]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if len(known) != len(attrs):
            self.problems.append(f"attribute twice in {tag}")
        self.elements.append((tag, known))
        if "id" in known:
            self.ids.append(str(known["id"]))
        if "data-path" in known:
            where = "td" if {"td", "th"} & set(self.stack) else "other"
            self.numbers.append((str(known["data-path"]), str(known["data-value"]), where))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack[-1] != tag:
            self.problems.append(f"</{tag}> closes {self.stack[-3:]}")
        else:
            self.stack.pop()

    def handle_data(self, data: str) -> None:
        (self.scripts if "script" in self.stack else self.text).append(data)


def resolve(pointer: str, value: Any) -> Any:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def check_numbers(page: Page, metrics: Any, at_least: int) -> None:
    """Every number of the page is exactly the number of ``metrics.json`` that it names."""
    import json

    assert len(page.numbers) >= at_least
    for path, shown, _ in page.numbers:
        stored = resolve(path, metrics)
        assert shown == (stored if isinstance(stored, str) else json.dumps(stored)), path
