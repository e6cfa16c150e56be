"""The layer strip: one column per block, one row per structure, filled by the share that was kept.

Many blocks are broken into strips of equal length, so that the numbers stay legible on paper.
"""

import math

from archtool.report import units
from archtool.report.data import LayerRow, Report
from archtool.report.markup import Html, number, tag
from archtool.report.panels.panel import Panel

MAX_COLUMNS = 16
_DENSE = 10
_Cells = dict[tuple[str, str], tuple[int, LayerRow]]


def render(report: Report) -> Html | None:
    """Strips of kept sizes and of scores; nothing where no layer was recorded."""
    if not report.layers:
        return None
    cells: _Cells = {}
    for index, row in enumerate(report.layers):
        cells.setdefault((row.structure, row.block), (index, row))
    blocks = list(dict.fromkeys(row.block for row in report.layers))
    structures = list(dict.fromkeys(row.structure for row in report.layers))
    strips = [_strip(part, structures, cells) for part in chunks(blocks)]
    return tag("div", strips, class_="strips")


def chunks(blocks: list[str], most: int = MAX_COLUMNS) -> list[list[str]]:
    """Split into the fewest parts of at most ``most``, all of nearly the same length."""
    width = math.ceil(len(blocks) / math.ceil(len(blocks) / most))
    return [blocks[start : start + width] for start in range(0, len(blocks), width)]


def _strip(blocks: list[str], structures: list[str], cells: _Cells) -> Html:
    head = tag("tr", tag("th", "block", scope="col"), [tag("th", block, scope="col") for block in blocks])
    kept = [_kept_line(name, blocks, cells) for name in structures if _any(name, cells, "kept", "original")]
    scored = [_score_line(name, blocks, cells) for name in structures if _any(name, cells, "score")]
    return tag(
        "div",
        tag(
            "table",
            tag("thead", head),
            tag("tbody", kept, scored),
            class_="strip dense" if len(blocks) > _DENSE else "strip",
        ),
        class_="scroll",
    )


def _any(structure: str, cells: _Cells, *fields: str) -> bool:
    rows = [row for (name, _), (_, row) in cells.items() if name == structure]
    return any(getattr(row, field) is not None for row in rows for field in fields)


def _kept_line(structure: str, blocks: list[str], cells: _Cells) -> Html:
    """One structure; the original stands once at the left where it is the same in all blocks."""
    originals = {row.original for (name, _), (_, row) in cells.items() if name == structure}
    common = originals.pop() if len(originals) == 1 else None
    label = [tag("b", structure), tag("small", f"of {units.exact(common)}") if common is not None else None]
    line = [_kept_cell(cells.get((structure, block)), common is None) for block in blocks]
    return tag("tr", tag("th", label, scope="row"), line)


def _kept_cell(cell: tuple[int, LayerRow] | None, show_original: bool) -> Html:
    if cell is None:
        return tag("td", "·", class_="none", title="this block has none")
    index, row = cell
    if row.kept is None:
        return tag("td", "?", class_="unmeasured", title="not measured")
    shown = number(row.kept, "", f"/layers/{index}/kept", units.exact(row.kept))
    under = None
    if show_original and row.original is not None:
        of = number(row.original, "", f"/layers/{index}/original", f"/{units.exact(row.original)}")
        under = tag("small", of)
    share = row.kept / row.original if row.original else None
    style = None if share is None else f"--k:{min(1.0, max(0.0, share)):.4f}"
    return tag("td", shown, under, class_="gone" if row.kept == 0 else "kept", style=style)


def _score_line(structure: str, blocks: list[str], cells: _Cells) -> Html:
    """The scores of one structure in a common power of ten, filled relative to the largest."""
    scores = [row.score for (name, _), (_, row) in cells.items() if name == structure and row.score is not None]
    top = max((abs(score) for score in scores if math.isfinite(score)), default=0.0)
    power = 3 * math.floor(math.log10(top) / 3) if top > 0 else 0
    factor = f"score × 10{units.superscript(power)}" if power else "score"
    line = [_score_cell(cells.get((structure, block)), top, power) for block in blocks]
    return tag("tr", tag("th", tag("b", structure), tag("small", factor), scope="row"), line, class_="score")


def _score_cell(cell: tuple[int, LayerRow] | None, top: float, power: int) -> Html:
    if cell is None:
        return tag("td", "·", class_="none", title="this block has none")
    index, row = cell
    if row.score is None:
        return tag("td", "?", class_="unmeasured", title="not measured")
    scaled = row.score / 10.0**power
    shown = number(row.score, "", f"/layers/{index}/score", units.significant(scaled, 2))
    share = abs(row.score) / top if top > 0 and math.isfinite(row.score) else 0.0
    return tag("td", shown, style=f"--k:{share:.4f}")


PANEL = Panel(
    "layers",
    "Layer by layer",
    render,
    "Each cell is filled by the share that was kept. Scores say how much a method expected to lose there.",
)
