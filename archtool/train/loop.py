"""The training loop: any objective, with exact resume, one process or many (`torchrun`).

Step ``s`` depends on the settings, the data and the state after step ``s - 1`` alone: its batches come by number
(`Feed`), its rate from how far the run is (`lr_factor`), its random numbers from (seed, s). So a run that is
killed anywhere and continued from its last saved state ends with the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archtool.data.dataset import Data
from archtool.errors import InputError
from archtool.progress import SILENT, Phase, Progress
from archtool.train.augment import Augment
from archtool.train.determinism import computing_with, deterministic, mixed_seed, seeded
from archtool.train.draws import example_seeds
from archtool.train.feed import Feed
from archtool.train.history import History
from archtool.train.objectives.base import Objective
from archtool.train.objectives.passes import Pass, Several, passes_of
from archtool.train.optimizer import optimizers, set_rates
from archtool.train.schedule import lr_factor, run_progress
from archtool.train.settings import TrainSettings
from archtool.train.state import TrainState, identity, load_state, save_state
from archtool.train.validate import Validation, objective_loss, split_off

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from archtool.data.batches import Batch

    Seeds = Callable[[Batch], Any]


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
        best_step: after which the weights were taken: the last, or the best on held-out examples.
        validation: (step, value) on held-out examples.
        passes: what an objective of several passes says of them; None for any other.
    """

    steps: int
    resumed_at: int
    loss: float
    curve: tuple[tuple[int, float], ...]
    threads: int
    processes: int
    best_step: int = 0
    validation: tuple[tuple[int, float], ...] = ()
    passes: Mapping[str, Any] | None = None


def fit(
    module: nn.Module,
    objective: Objective | Several,
    data: Data,
    settings: TrainSettings,
    *,
    work: Path | None = None,
    augment: Augment | None = None,
    seeds: Seeds | None = None,
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
        seeds: of these changes, one per example of a batch; None: by the settings' seed.
        device: ``cpu`` or an accelerator.
        threads: to compute with; None: as torch is set.
        progress: who is told.
        label: what progress calls it.

    Raises:
        InputError: data that does not fit the model, or a loss that is not finite.
        UsageError: ``work`` holds the state of another training run.
    """
    with deterministic(), computing_with(threads) as count:
        loop = _Loop(module, objective, data, settings, work, augment or Augment(), seeds, device)
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
        seeds: Seeds | None,
        device: str,
    ) -> None:
        import torch
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=device == "cpu", device_placement=False)
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.objective, self.settings, self.work, self.augment = objective, settings, work, augment
        self.key = identity(module, data, settings, objective, augment)
        data, self.validation = split_off(data, settings)
        set_recompute(module, settings.checkpointing)
        self.seeds = seeds or partial(example_seeds, settings.seed)
        self.device = self.accelerator.device if processes > 1 else torch.device(device)
        self.feed = Feed(data, settings.batch_size, settings.seed, rank, processes, str(self.device))
        self.modules = {"model": module, "objective": getattr(objective, "trained", None) or torch.nn.ModuleDict()}
        for part in self.modules.values():
            part.to(self.device).train()
        made = optimizers(self.modules, settings)
        self.optimizers = {name: self.accelerator.prepare(optimizer) for name, optimizer in made.items()}
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
        self._keep_best()
        set_recompute(self.modules["model"].cpu().eval(), False)
        curve, loss = tuple(self.history.curve()), self.history.recent()
        measured = () if self.validation is None else tuple(self.validation.values)
        best = self.validation.best_step if self.validation is not None else self.step
        summary = self.objective.summary(self.history.lines()) if isinstance(self.objective, Several) else None
        processes = self.accelerator.num_processes
        return TrainResult(self.step, resumed_at, loss, curve, threads, processes, best, measured, summary)

    def _keep_best(self) -> None:
        if self.validation is not None:
            self.modules["model"].load_state_dict(dict(self.validation.best))

    def _steps(self, phase: Phase, limit_s: float | None) -> None:
        resumed_s, begun, saved_at, saved_step = self.elapsed_s, time.monotonic(), time.monotonic(), self.step
        while not self._finished(limit_s):
            before_s = self.elapsed_s
            losses = self._step(limit_s)
            self.step += 1
            self.elapsed_s = resumed_s + time.monotonic() - begun
            if limit_s is not None:
                self.elapsed_s = self._agreed(self.elapsed_s)  # rates follow from it
            self.history.append(self.step, losses, self.lines)
            self.lines = []
            said = f"loss {losses['loss']:.4f}{self._validated()}"
            phase.advance(1 if self.settings.steps is not None else self.elapsed_s - before_s, said)
            if self._due(saved_step, saved_at):
                self._save()
                saved_at, saved_step = time.monotonic(), self.step

    def _finished(self, limit_s: float | None) -> bool:
        by_steps = self.settings.steps is not None and self.step >= self.settings.steps
        late = limit_s is not None and self.elapsed_s >= limit_s
        return by_steps or late or (self.validation is not None and self.validation.exhausted())

    def _validated(self) -> str:
        """Evaluate where it is due; gives the latest value in words."""
        validation = self.validation
        if validation is None:
            return ""
        if validation.due(self.step, self.settings.steps):
            value = self._agreed(self._measured(validation) if self.accelerator.is_main_process else None)
            validation.note(self.step, value, self.modules["model"])
            self.history.append(self.step, {f"validation_{validation.metric}": value})
        return f", {validation.metric} {validation.values[-1][1]:.4f}" if validation.values else ""

    def _measured(self, validation: Validation) -> float:
        """The metric on the held-out examples; it draws nothing and changes nothing."""
        from archtool.evaluate.registry import evaluate

        module, batch_size = self.modules["model"], self.settings.batch_size
        if validation.metric != "loss" or validation.data.targets:
            found = evaluate(
                module, validation.data.task, validation.data, batch_size=batch_size, device=str(self.device)
            )
            return found[validation.metric]
        return objective_loss(module, self.objective, validation.data, batch_size, str(self.device))

    def _step(self, limit_s: float | None) -> dict[str, float]:
        """One optimizer step; returns its losses."""
        at = run_progress(self.step, self.settings.steps, self.elapsed_s, limit_s)
        set_rates(self.optimizers, self.settings.lr * lr_factor(at, self.settings.warmup, self.settings.schedule))
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        totals: dict[str, float] = {}
        for part in range(self.settings.accumulate):
            for name, value in self._backward(part).items():
                totals[name] = totals.get(name, 0.0) + value / self.settings.accumulate
        self._check(totals["loss"], "loss")
        self._share_gradients()
        self._check(self._clipped(), "norm of the gradient")
        for optimizer in self.optimizers.values():
            optimizer.step()
        return totals

    def _backward(self, part: int) -> dict[str, float]:
        """Forward and backward pass number ``part`` of this step."""
        import torch

        settings, number = self.settings, self.step * self.settings.accumulate + part
        generator = torch.Generator().manual_seed(mixed_seed(settings.seed, number, 0))
        batch = self.feed.batch(number)
        batch = self.augment(batch, self.seeds(batch), self.feed)
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16")
        with seeded(self.device, mixed_seed(settings.seed, number, self.accelerator.process_index)):
            return self._passes(passes_of(self.objective, self.modules["model"], batch, generator), half)

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
                self.lines.append(self._line(made.line))

    def _line(self, line: Mapping[str, Any]) -> Mapping[str, Any]:
        """The journal's line with its loss over all processes."""
        import torch

        if self.accelerator.num_processes == 1:
            return line
        return {**line, "loss": self._mean(torch.tensor(line["loss"], device=self.device))}

    def _mean(self, value: Tensor) -> float:
        """The mean over processes."""
        if self.accelerator.num_processes == 1:
            return float(value)
        return float(self.accelerator.reduce(value, reduction="mean"))

    def _clipped(self) -> float:
        """Clip the gradient; returns its norm before that."""
        import torch

        largest = self.settings.clip or math.inf
        return float(torch.nn.utils.clip_grad_norm_(list(self._parameters()), largest, foreach=True))

    def _parameters(self) -> Iterator[nn.Parameter]:
        for part in self.modules.values():
            yield from (p for p in part.parameters() if p.requires_grad)

    def _share_gradients(self) -> None:
        """Give every process the mean gradient; a parameter that one of them did not reach counts as zero there.

        Done once per step, whatever the objective ran: sub-networks and several passes, which wrappers that watch the
        backward pass do not allow.
        """
        if self.accelerator.num_processes == 1:
            return
        import torch

        params = list(self._parameters())
        reached = torch.tensor([float(p.grad is not None) for p in params], device=self.device)
        used = [p for p, n in zip(params, self.accelerator.reduce(reached).tolist(), strict=True) if n]
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in used]
        mean = self.accelerator.reduce(torch.cat([g.flatten() for g in grads]), reduction="mean")
        for p, part in zip(used, mean.split([p.numel() for p in used]), strict=True):
            p.grad = part.view_as(p)

    def _check(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            last = self.history.curve()[-1:]
            before = f"; the loss before was {last[0][1]:.4g}" if last else ""
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
            moments = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
            tensors = {name: part.state_dict() for name, part in self.modules.items()}
            judged = {} if self.validation is None else self.validation.state()
            state = TrainState(self.step, self.elapsed_s, tensors, moments, judged)
            save_state(self.work, state, self.key)

    def _restore(self) -> int:
        """Continue where an earlier process saved; returns the step."""
        main = self.accelerator.is_main_process
        state = load_state(self.work, self.key) if self.work is not None and main else None
        state = self._agreed(state)
        if state is not None:
            for name, part in self.modules.items():
                part.load_state_dict(dict(state.modules[name]))
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(_on(state.optimizers[name], self.device))
            self.step, self.elapsed_s = state.step, state.elapsed_s
            if self.validation is not None:
                self.validation.load(state.validation)
        self.history.restore(self.step)
        self.history.rows = self._agreed(self.history.rows)
        return self.step

    def _agreed(self, mine: Any) -> Any:
        """What the main process has, in every process."""
        if self.accelerator.num_processes == 1:
            return mine
        from accelerate.utils import broadcast_object_list

        said = [mine]
        broadcast_object_list(said, from_process=0)
        return said[0]


def _on(optimizer: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """An optimizer state with its tensors on a device."""
    moved = {
        index: {name: value.to(device) if hasattr(value, "to") else value for name, value in slots.items()}
        for index, slots in optimizer["state"].items()
    }
    return {**optimizer, "state": moved}


def set_recompute(module: nn.Module, on: bool) -> None:
    """Whether a model's blocks are run again in the backward pass; `InputError` for a module that has none."""
    if hasattr(module, "recompute"):
        vars(module)["recompute"] = on
    elif on:
        raise InputError("this module has no blocks to run again", "leave checkpointing off")
