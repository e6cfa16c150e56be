"""Results of an evaluation, as plain data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archtool.data.spec import did_you_mean
from archtool.errors import UsageError


@dataclass(frozen=True)
class Metrics:
    """Named numbers of one task.

    Args:
        task: its name.
        values: metric name to value.
        samples: how many examples (pairs for similarity, documents' windows for lm) were used.
        stderr: standard errors of those values that have one.
        higher_is_better: direction per name; absent where a number has none (such as ``tokens``).
    """

    task: str
    values: Mapping[str, float]
    samples: int
    stderr: Mapping[str, float] = field(default_factory=dict)
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        """The value of a metric; `UsageError` lists those that exist."""
        if name not in self.values:
            near = did_you_mean(name, self.values)
            raise UsageError(f"no metric {name!r}", f"{self.task} gives {', '.join(self.values)}{near}")
        return self.values[name]

    def better(self, name: str, value: float, other: float) -> bool:
        """Whether ``value`` is strictly better than ``other``; `UsageError` for numbers without direction."""
        if name not in self.higher_is_better:
            raise UsageError(f"metric {name!r} has no direction", f"compare {', '.join(self.higher_is_better)}")
        return value > other if self.higher_is_better[name] else value < other

    def to_json(self) -> dict[str, Any]:
        """Flat JSON values: each metric, ``<name>_stderr`` where known, ``samples`` and ``task``."""
        known = {name: value for name, value in self.stderr.items() if math.isfinite(value)}
        errors = {f"{name}_stderr": value for name, value in known.items()}
        return {"task": self.task, **self.values, **errors, "samples": self.samples}
