"""How long and how fast to train, as plain data."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from archtool.errors import UsageError

Shape = Literal["cosine", "linear", "constant", "wsd"]
Precision = Literal["fp32", "bf16"]
OptimizerName = Literal["adamw", "muon", "sgd"]


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one training run.

    Attributes:
        steps: optimizer steps, or None where only ``minutes`` ends the run.
        minutes: wall-clock limit; a run that it ends is not repeatable to the bit.
        lr: peak learning rate.
        batch_size: examples per forward pass, over all processes.
        accumulate: forward passes per optimizer step.
        weight_decay: of matrices (biases, gains and other vectors are never decayed).
        optimizer: ``muon`` is Muon on the matrices inside the network and AdamW on the rest.
        betas: AdamW's.
        schedule: the shape of the learning rate after the warm-up.
        warmup: share of the run in which the rate rises from zero.
        clip: largest norm of the whole gradient; 0 turns clipping off.
        precision: ``bf16`` runs the forward pass under autocast; weights and optimizer stay fp32.
        checkpointing: blocks are run again in the backward pass, which takes less memory and more time.
        validation: share of the data that is held out; the weights that do best there are the result.
        validation_steps: evaluate it after so many steps (0: twenty times in the run).
        patience: evaluations without a better value after which the run stops (0: never).
        seed: of the data order and of everything drawn in a step.
        save_steps: save the state after so many steps (0: by time alone).
        save_seconds: save the state when so many seconds have passed since the last time.
    """

    steps: int | None
    minutes: float | None = None
    lr: float = 1e-3
    batch_size: int = 64
    accumulate: int = 1
    weight_decay: float = 0.05
    optimizer: OptimizerName = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Shape = "cosine"
    warmup: float = 0.1
    clip: float = 1.0
    precision: Precision = "fp32"
    checkpointing: bool = False
    validation: float = 0.0
    validation_steps: int = 0
    patience: int = 0
    seed: int = 0
    save_steps: int = 0
    save_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise UsageError("training has no end", "give steps=N or minutes=M")
        _at_least("steps", self.steps, 1)
        _positive("minutes", self.minutes)
        _positive("lr", self.lr)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("accumulate", self.accumulate, 1)
        if not 0 <= self.warmup <= 1:
            raise UsageError(f"warmup is {self.warmup}", "it is a share of the run, from 0 to 1")
        if not 0 <= self.validation < 1:
            raise UsageError(f"validation is {self.validation}", "it is a share of the data, from 0 to below 1")
        if self.patience and not self.validation:
            raise UsageError("patience without held-out data", "give validation, such as 0.1")
        _one_of("schedule", self.schedule, get_args(Shape))
        _one_of("training precision", self.precision, get_args(Precision))
        _one_of("optimizer", self.optimizer, get_args(OptimizerName))

    def identity(self) -> dict[str, Any]:
        """What decides the result: everything but when the state is saved."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("save_")}


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"no {what} {value!r}", f"use one of {', '.join(known)}")


def _at_least(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UsageError(f"{name} is {value}", f"give at least {least}")


def _positive(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise UsageError(f"{name} is {value}", "give a number above 0")
