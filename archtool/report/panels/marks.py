"""Signs that several panels share: better and worse in words and shapes, not by colour alone; small bars."""

from archtool.report.markup import Html, tag

_MARKS = {
    "better": ("▲", "better", "good"),
    "worse": ("▼", "worse", "bad"),
    "same": ("=", "same", "same"),
    "within noise": ("≈", "within noise", "same"),
}


def mark(change: str) -> Html | None:
    """The mark of a change, or nothing where there is none to speak of."""
    if change not in _MARKS:
        return None
    symbol, word, class_ = _MARKS[change]
    return tag(
        "span",
        tag("span", symbol, aria_hidden="true"),
        tag("span", f" {word}", class_="word"),
        class_=f"mark {class_}",
    )


def bar(share: float) -> Html:
    """A bar as long as ``share`` of its cell; beyond 1 it is cut and marked as longer."""
    class_ = "bar over" if share > 1 else "bar"
    return tag("span", class_=class_, style=f"--k:{min(1.0, max(0.0, share)):.4f}", aria_hidden="true")
