"""The training loop: AdamW on any objective, with exact resume, one process or many (`torchrun`).

Step ``s`` depends on the settings, the data and the state after step ``s - 1`` alone: its batches come by number
(`Feed`), its rate from how far the run is (`lr_factor`), its random numbers from (seed, s). So a run that is
killed anywhere and continued from its last saved state ends with the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.data.dataset import Data
from archtool.errors import InputError
from archtool.progress import SILENT, Phase, Progress
from archtool.train.augment import Augment
from archtool.train.determinism import computing_with, deterministic, mixed_seed, seeded
from archtool.train.feed import Feed
from archtool.train.history import History
from archtool.train.objectives.base import Objective
from archtool.train.objectives.passes import Pass, Several, passes_of
from archtool.train.optimizer import adamw
from archtool.train.schedule import lr_factor, run_progress
from archtool.train.settings import TrainSettings
from archtool.train.state import TrainState, identity, load_state, save_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class TrainResult:
    """What a training run did.

    Attributes:
        steps: optimizer steps over the whole run.
        resumed_at: the step from which this process continued (0: from the start).
        loss: mean over the last tenth of the steps.
        curve: (step, loss) of at most 200 stretches.
        threads: with how many it computed; results are repeatable for this number.
        processes: over how many the batches were spread.
        passes: what an objective of several passes says of them; None for any other.
    """

    steps: int
    resumed_at: int
    loss: float
    curve: tuple[tuple[int, float], ...]
    threads: int
    processes: int
    passes: Mapping[str, Any] | None = None


def fit(
    module: nn.Module,
    objective: Objective | Several,
    data: Data,
    settings: TrainSettings,
    *,
    work: Path | None = None,
    augment: Augment | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress = SILENT,
    label: str = "train",
) -> TrainResult:
    """Train a module in place; it is left in eval mode on the CPU.

    Args:
        module: what is trained; called by the objective.
        objective: what is minimised.
        data: what is trained on.
        settings: how.
        work: where the state is kept between interruptions (None: nowhere).
        augment: random changes of images.
        device: ``cpu`` or an accelerator.
        threads: to compute with; None: as torch is set.
        progress: who is told.
        label: what progress calls it.

    Raises:
        InputError: data that does not fit the model, or a loss that is not finite.
        UsageError: ``work`` holds the state of another training run.
    """
    with deterministic(), computing_with(threads) as count:
        loop = _Loop(module, objective, data, settings, work, augment or Augment(), device)
        return loop.run(progress, label, count)


class _Loop:
    """One run over one module."""

    def __init__(
        self,
        module: nn.Module,
        objective: Objective | Several,
        data: Data,
        settings: TrainSettings,
        work: Path | None,
        augment: Augment,
        device: str,
    ) -> None:
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=device == "cpu")
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.objective, self.settings, self.work, self.augment = objective, settings, work, augment
        self.key = identity(module, data, settings, processes)
        self.plain = module
        self.device = self.accelerator.device
        self.feed = Feed(data, settings.batch_size, settings.seed, rank, processes, str(self.device))
        self.module, self.optimizer = self.accelerator.prepare(module.train(), adamw(module, settings))
        self.history = History(work if self.accelerator.is_main_process else None)
        self.lines: list[Mapping[str, Any]] = []
        self.step, self.elapsed_s = 0, 0.0

    def run(self, progress: Progress, label: str, threads: int) -> TrainResult:
        """All steps that are left."""
        resumed_at = self._restore()
        limit_s = None if self.settings.minutes is None else 60 * self.settings.minutes
        by_steps = self.settings.steps is not None
        with progress.phase(label, total=self.settings.steps if by_steps else limit_s) as phase:
            phase.advance(self.step if by_steps else self.elapsed_s)
            self._steps(phase, limit_s)
        self.accelerator.wait_for_everyone()
        self.plain.cpu().eval()
        curve, loss = tuple(self.history.curve()), self.history.recent()
        summary = self.objective.summary(self.history.lines()) if isinstance(self.objective, Several) else None
        return TrainResult(self.step, resumed_at, loss, curve, threads, self.accelerator.num_processes, summary)

    def _steps(self, phase: Phase, limit_s: float | None) -> None:
        resumed_s, begun, saved_at, saved_step = self.elapsed_s, time.monotonic(), time.monotonic(), self.step
        while not self._finished(limit_s):
            before_s = self.elapsed_s
            losses = self._step(limit_s)
            self.step += 1
            self.elapsed_s = resumed_s + time.monotonic() - begun
            self.history.append(self.step, losses, self.lines)
            self.lines = []
            phase.advance(
                1 if self.settings.steps is not None else self.elapsed_s - before_s,
                f"loss {losses['loss']:.4f}",
            )
            if self._due(saved_step, saved_at):
                self._save()
                saved_at, saved_step = time.monotonic(), self.step

    def _finished(self, limit_s: float | None) -> bool:
        by_steps = self.settings.steps is not None and self.step >= self.settings.steps
        late = limit_s is not None and self.elapsed_s >= limit_s
        return by_steps or self._any(late)

    def _any(self, mine: bool) -> bool:
        """Whether it holds in any process: all must leave the loop together."""
        if self.accelerator.num_processes == 1:
            return mine
        import torch

        return bool(self.accelerator.reduce(torch.tensor(float(mine), device=self.device)) > 0)

    def _step(self, limit_s: float | None) -> dict[str, float]:
        """One optimizer step; returns its losses."""
        at = run_progress(self.step, self.settings.steps, self.elapsed_s, limit_s)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * lr_factor(at, self.settings.warmup, self.settings.schedule)
        self.optimizer.zero_grad()
        totals: dict[str, float] = {}
        for part in range(self.settings.accumulate):
            for name, value in self._backward(part).items():
                totals[name] = totals.get(name, 0.0) + value / self.settings.accumulate
        self._check(totals["loss"], "loss")
        self._check(self._clipped(), "norm of the gradient")
        self.optimizer.step()
        return totals

    def _backward(self, part: int) -> dict[str, float]:
        """Forward and backward pass number ``part`` of this step."""
        import contextlib

        import torch

        settings, number = self.settings, self.step * self.settings.accumulate + part
        seed = mixed_seed(settings.seed, number, self.accelerator.process_index)
        generator = torch.Generator().manual_seed(seed)
        batch = self.augment(self.feed.batch(number), generator)
        last = part == settings.accumulate - 1
        sync = contextlib.nullcontext() if last else self.accelerator.no_sync(self.module)
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16")
        with sync, seeded(self.device, seed):
            return self._passes(passes_of(self.objective, self.module, batch, generator), half)

    def _passes(self, passes: Iterator[Pass], half: torch.autocast) -> dict[str, float]:
        """Differentiate one pass after the other; returns the sums of their losses."""
        totals: dict[str, float] = {}
        while True:
            with half:
                made = next(passes, None)
            if made is None:
                return totals
            self.accelerator.backward(made.losses["loss"] / self.settings.accumulate)
            for name, value in made.losses.items():
                totals[name] = totals.get(name, 0.0) + self._mean(value.detach())
            if made.line is not None:
                self.lines.append(made.line)

    def _mean(self, value: Tensor) -> float:
        """The mean over processes."""
        if self.accelerator.num_processes == 1:
            return float(value)
        return float(self.accelerator.reduce(value, reduction="mean"))

    def _clipped(self) -> float:
        """Clip the gradient; returns its norm before that."""
        import torch

        largest = self.settings.clip or math.inf
        return float(torch.nn.utils.clip_grad_norm_(self.plain.parameters(), largest, foreach=True))

    def _check(self, value: float, what: str) -> None:
        if self._any(not math.isfinite(value)):
            before = f"; the loss before was {self.history.rows[-1]['loss']:.4g}" if self.history.rows else ""
            raise InputError(
                f"the {what} is {value} in training step {self.step + 1}{before}",
                "use a lower learning rate or clip, or look for damaged weights and data",
            )

    def _due(self, saved_step: int, saved_at: float) -> bool:
        """Whether the state is to be saved now; the end of the run need not be."""
        if self.work is None:
            return False
        by_steps = 0 < self.settings.save_steps <= self.step - saved_step
        return by_steps or time.monotonic() - saved_at >= self.settings.save_seconds

    def _save(self) -> None:
        if self.work is not None and self.accelerator.is_main_process:
            state = TrainState(self.step, self.elapsed_s, self.plain.state_dict(), self.optimizer.state_dict())
            save_state(self.work, state, self.key)

    def _restore(self) -> int:
        """Continue where an earlier process saved; returns the step."""
        state = load_state(self.work, self.key) if self.work is not None else None
        if state is not None:
            self.plain.load_state_dict(dict(state.model))
            self.optimizer.load_state_dict(_on(state.optimizer, self.device))
            self.step, self.elapsed_s = state.step, state.elapsed_s
        self.history.restore(self.step)
        return self.step


def _on(optimizer: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """An optimizer state with its tensors on a device."""
    moved = {
        index: {name: value.to(device) if hasattr(value, "to") else value for name, value in slots.items()}
        for index, slots in optimizer["state"].items()
    }
    return {**optimizer, "state": moved}
