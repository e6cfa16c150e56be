"""Before/after rows: every quantity of the two snapshots side by side, with ratio and direction.

HTML, terminal, CSV and model card all read these rows, so that they cannot disagree. Each value carries the
JSON pointer (RFC 6901) of the number in ``metrics.json`` that it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from archtool.report.data import LatencySample, Metric, Report, Snapshot

_SIZES = (
    ("parameters", "Parameters", "count"),
    ("embedding_parameters", "of which embeddings", "count"),
    ("size_bytes", "Size on disk", "bytes"),
    ("padding_bytes", "of which padding", "bytes"),
    ("bits_per_weight", "Bits per weight", "bits"),
    ("macs", "Compute per pass", "macs"),
    ("activation_bytes", "Activation memory", "bytes"),
    ("peak_memory_bytes", "Peak memory", "bytes"),
    ("kv_cache_bytes_per_token", "KV cache per token", "bytes"),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the before/after table.

    ``change`` is better, worse, same, ``within noise`` or empty (not comparable). ``*_error`` is a standard
    error; ``*_path`` is the JSON pointer of the value. ``group`` is sizes, quality or latency.
    """

    key: str
    label: str
    group: str
    kind: str
    parent: float | None
    child: float | None
    parent_path: str
    child_path: str
    parent_error: float | None = None
    child_error: float | None = None
    ratio: float | None = None
    change: str = ""


def comparison(report: Report) -> tuple[Row, ...]:
    """The rows of the before/after table: sizes, then quality, then latency; only what was measured."""
    rows = [*_size_rows(report), *_metric_rows(report), *_latency_rows(report)]
    return tuple(row for row in rows if row.parent is not None or row.child is not None)


def pointer(*parts: str | int) -> str:
    """The JSON pointer of a path, with ``~`` and ``/`` escaped."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def ratio(parent: float | None, child: float | None) -> float | None:
    """Child over parent, or None where that has no meaning."""
    if parent is None or child is None or parent == 0:
        return None
    value = child / parent
    return value if math.isfinite(value) else None


def _change(parent: float | None, child: float | None, higher_is_better: bool, noise: float = 0.0) -> str:
    """How the child compares; a difference of at most ``noise`` is not one."""
    if parent is None or child is None or math.isnan(parent) or math.isnan(child):
        return ""
    if parent == child:
        return "same"
    if abs(child - parent) <= noise:
        return "within noise"
    return "better" if (child > parent) == higher_is_better else "worse"


def _size_rows(report: Report) -> list[Row]:
    rows = []
    for key, label, kind in _SIZES:
        parent, child = _attribute(report.parent, key), _attribute(report.child, key)
        rows.append(
            Row(
                key=key,
                label=label,
                group="sizes",
                kind=kind,
                parent=parent,
                child=child,
                parent_path=pointer("parent", key),
                child_path=pointer("child", key),
                ratio=ratio(parent, child),
                change=_change(parent, child, higher_is_better=False),
            )
        )
    return rows


def _attribute(snapshot: Snapshot | None, key: str) -> float | None:
    value = getattr(snapshot, key) if snapshot is not None else None
    return None if value is None else value


def _metric_rows(report: Report) -> list[Row]:
    before = report.parent.metrics if report.parent else {}
    names = list(before) + [name for name in report.child.metrics if name not in before]
    return [_metric_row(name, before.get(name), report.child.metrics.get(name)) for name in names]


def _metric_row(name: str, before: Metric | None, after: Metric | None) -> Row:
    known = after or before
    errors = [metric.stderr for metric in (before, after) if metric and metric.stderr is not None]
    noise = 2 * math.hypot(*errors) if len(errors) == 2 else 0.0
    parent, child = before.value if before else None, after.value if after else None
    return Row(
        key=f"metric:{name}",
        label=name.replace("_", " "),
        group="quality",
        kind=known.unit if known else "",
        parent=parent,
        child=child,
        parent_path=pointer("parent", "metrics", name, "value"),
        child_path=pointer("child", "metrics", name, "value"),
        parent_error=before.stderr if before else None,
        child_error=after.stderr if after else None,
        ratio=ratio(parent, child),
        change=_change(parent, child, known is None or known.higher_is_better, noise),
    )


def _latency_rows(report: Report) -> list[Row]:
    before = _by_key(report.parent)
    after = _by_key(report.child)
    keys = list(before) + [key for key in after if key not in before]
    return [_latency_row(before.get(key), after.get(key)) for key in keys]


def _by_key(snapshot: Snapshot | None) -> dict[tuple[str, int, int | None], tuple[int, LatencySample]]:
    """The first sample of each key with its index."""
    found: dict[tuple[str, int, int | None], tuple[int, LatencySample]] = {}
    for index, sample in enumerate(snapshot.latency if snapshot else ()):
        found.setdefault(sample.key, (index, sample))
    return found


def _latency_row(before: tuple[int, LatencySample] | None, after: tuple[int, LatencySample] | None) -> Row:
    known = after or before
    assert known is not None
    parent = before[1].median_ms if before else None
    child = after[1].median_ms if after else None
    change = _change(parent, child, higher_is_better=False)
    if before and after and _overlap(before[1].values_ms, after[1].values_ms):
        change = "within noise"
    return Row(
        key=f"latency:{shape_name(known[1])}",
        label=f"Latency, {shape_name(known[1])}",
        group="latency",
        kind="ms",
        parent=parent,
        child=child,
        parent_path=pointer("parent", "latency", before[0], "median_ms") if before else "",
        child_path=pointer("child", "latency", after[0], "median_ms") if after else "",
        ratio=ratio(parent, child),
        change=change,
    )


def shape_name(sample: LatencySample) -> str:
    """A sample's runtime and shape in words: ``onnxruntime, batch 1 × 64``."""
    length = "" if sample.length is None else f" × {sample.length}"
    return f"{sample.runtime}, batch {sample.batch}{length}"


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the median from order statistics (no assumption on the distribution)."""
    ordered = sorted(values)
    half = 0.98 * math.sqrt(len(ordered))
    low = max(0, math.floor(len(ordered) / 2 - half))
    high = min(len(ordered) - 1, math.ceil(len(ordered) / 2 + half))
    return ordered[low], ordered[high]


def _overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether the two medians' intervals overlap; with fewer than 6 times each there is no interval."""
    if min(len(first), len(second)) < 6:
        return False
    (a_low, a_high), (b_low, b_high) = median_interval(first), median_interval(second)
    return a_low <= b_high and b_low <= a_high
