"""The losses of a run, step by step, as JSON lines that survive a crash."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archtool.checkpoint.atomic import atomic_file

FILE = "losses.jsonl"
POINTS = 200


@dataclass
class History:
    """Losses by step, and what was measured after some of them; kept in ``folder`` where there is one."""

    folder: Path | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def append(self, step: int, values: Mapping[str, float], passes: Sequence[Mapping[str, Any]] = ()) -> None:
        """Add the losses of step ``step`` (from 1), and a line about each of its passes where there are several."""
        row = {"step": step, **values, **({"passes": list(passes)} if passes else {})}
        self.rows.append(row)
        if self.folder is not None:
            with (self.folder / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def restore(self, step: int) -> None:
        """Read what an earlier process wrote, up to step ``step``; later lines are cut off."""
        self.rows = [row for row in self._read() if row["step"] <= step]
        if self.folder is not None:
            with atomic_file(self.folder / FILE) as path:
                path.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")

    def _read(self) -> list[dict[str, Any]]:
        if self.folder is None or not (self.folder / FILE).exists():
            return []
        whole = (self.folder / FILE).read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in whole]

    def lines(self) -> Iterator[Mapping[str, Any]]:
        """The lines about single passes, over all steps."""
        for row in self.rows:
            yield from row.get("passes", ())

    def curve(self, name: str = "loss") -> list[tuple[int, float]]:
        """(last step, mean) of at most `POINTS` equal stretches, for reports."""
        rows = [row for row in self.rows if name in row]
        width = max(1, -(-len(rows) // POINTS))
        parts = [rows[i : i + width] for i in range(0, len(rows), width)]
        return [(part[-1]["step"], sum(row[name] for row in part) / len(part)) for part in parts]

    def recent(self, name: str = "loss", share: float = 0.1) -> float:
        """The mean over the last share of the run (one step at least)."""
        rows = [row for row in self.rows if name in row]
        last = rows[-max(1, round(share * len(rows))) :]
        return float(sum(row[name] for row in last) / len(last))
