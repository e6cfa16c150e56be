"""What a report says, as data: every page, table, file and card is drawn from this one object.

Everything is frozen and survives a JSON round trip (`archtool.report.codec`). A part that was not
measured is ``None`` or empty, never zero; derived numbers (ratios, verdict, rank correlation) are computed
from these fields by `archtool.report.derive` and never stored in them.

Units: ``*_bytes`` in bytes (1 MB = 10^6), ``*_ms`` in milliseconds, ``seconds`` in seconds, ``macs`` in
multiply-adds of one forward pass of the shape in ``Report.input_shape``.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured quality: its value, its standard error if known, and which direction is better."""

    value: float
    stderr: float | None = None
    higher_is_better: bool = True
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class LatencySample:
    """Times of single calls in one runtime at one shape, after warm-up.

    ``count`` calls were timed; ``values_ms`` keeps them all or an evenly spaced part of them, in order.
    """

    runtime: str
    batch: int
    length: int | None = None
    values_ms: tuple[float, ...]
    count: int
    median_ms: float
    p95_ms: float
    precision: str = ""
    device: str = ""
    threads: int | None = None

    @property
    def key(self) -> tuple[str, int, int | None]:
        """What must agree for two samples to be compared: runtime, batch and length."""
        return self.runtime, self.batch, self.length


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One model's sizes and measurements, before or after."""

    name: str
    parameters: int | None = None
    embedding_parameters: int | None = None
    size_bytes: int | None = None
    padding_bytes: int | None = None
    bits_per_weight: float | None = None
    macs: int | None = None
    activation_bytes: int | None = None
    peak_memory_bytes: int | None = None
    kv_cache_bytes_per_token: int | None = None
    metrics: dict[str, Metric] = field(default_factory=dict)
    latency: tuple[LatencySample, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BudgetCheck:
    """A budget or a quality gate that was asked for, and whether it was met (None: not measured)."""

    request: str
    achieved: float | None = None
    limit: float | None = None
    unit: str = ""
    met: bool | None = None


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """How much of one structure (heads, ffn, rank, bits, ...) of one block was kept, and its score."""

    block: str
    structure: str
    kept: float | None = None
    original: float | None = None
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class TensorRow:
    """One encoded tensor: the scheme, the stored bits per weight and the relative error it caused."""

    name: str
    scheme: str
    bits: float | None = None
    error: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One step of the recipe as it ran."""

    name: str
    seconds: float | None = None
    summary: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PredictedPair:
    """What a method predicted for one choice, and what was measured for it."""

    name: str
    predicted: float
    measured: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predictions of one quantity beside their measurements."""

    quantity: str
    unit: str = ""
    pairs: tuple[PredictedPair, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One point of a search. ``role`` is candidate, front, chosen, parent, or the name of a baseline.

    ``costs`` are by name with the unit in it (``parameters``, ``size_bytes``, ``latency_ms``).
    """

    name: str
    role: str
    quality: float
    costs: dict[str, float]
    spread: float | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """All points that were tried, and the quality they are judged by."""

    quality_name: str
    higher_is_better: bool = True
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something that was left as it was, or done in another way than asked, and why."""

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """A written model compared with the model in memory after a reload."""

    dialect: str
    loads_in: str = ""
    max_difference: float | None = None
    tolerance: float | None = None
    fresh_process: bool = False


@dataclass(frozen=True, kw_only=True)
class Command:
    """A block of text to copy: a shell command or a snippet, with what it is for."""

    purpose: str
    code: str
    language: str = "bash"
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the numbers come from. Hashes are ``algorithm:hex``; ``started`` is an ISO 8601 time."""

    seed: int | None = None
    started: str = ""
    wall_seconds: float | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, str] = field(default_factory=dict)
    recipe: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run, told completely. ``base_model`` is the hub id or folder name of the parent, if it has one."""

    title: str
    model_name: str
    family: str = ""
    base_model: str = ""
    task: str = ""
    input_shape: str = ""
    child: Snapshot
    parent: Snapshot | None = None
    budgets: tuple[BudgetCheck, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    tensors: tuple[TensorRow, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    search: Search | None = None
    skipped: tuple[Skipped, ...] = ()
    exports: tuple[ExportCheck, ...] = ()
    commands: tuple[Command, ...] = ()
    limits: tuple[str, ...] = ()
    provenance: Provenance = Provenance()


def latency_sample(
    values_ms: Sequence[float],
    *,
    runtime: str,
    batch: int,
    length: int | None = None,
    precision: str = "",
    device: str = "",
    threads: int | None = None,
    keep: int = 200,
) -> LatencySample:
    """Summarize the times of single calls; at most ``keep`` of them, evenly spaced, are stored.

    The median and the 95th percentile (linear interpolation) are those of all values.

    Raises:
        ValueError: there are no values.
    """
    if not values_ms:
        raise ValueError("a latency sample needs at least one time")
    values = [float(value) for value in values_ms]
    stride = max(1, -(-len(values) // keep))
    return LatencySample(
        runtime=runtime,
        batch=batch,
        length=length,
        values_ms=tuple(values[::stride]),
        count=len(values),
        median_ms=statistics.median(values),
        p95_ms=percentile(values, 0.95),
        precision=precision,
        device=device,
        threads=threads,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The ``share`` quantile (0 to 1) of the values, linearly interpolated."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])
