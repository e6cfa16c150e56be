"""Long tables that stay out of the way: folded, cut with a note of what was cut, never silently."""

from collections.abc import Sequence

from archtool.report.markup import Html, join, table, tag

MOST_ROWS = 200


def folded(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = ()) -> Html:
    """A table behind its title; beyond `MOST_ROWS` rows it says where the rest is."""
    rest = len(rows) - MOST_ROWS
    note = f"{rest:,} more rows are in report.csv and metrics.json." if rest > 0 else None
    summary = tag("summary", f"{title} ({len(rows):,})")
    body = table(head, rows[:MOST_ROWS], "numbers", words)
    return tag("details", summary, join(body, tag("p", note, class_="foot") if note else None))
