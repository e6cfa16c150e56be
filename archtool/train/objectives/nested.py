"""Training a nested model: the losses of submodels that run on the parent's own parameters.

Sources: MatFormer (Devvrit et al. 2023), the sandwich rule with in-place distillation (Yu & Huang 2019).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archtool.data.batches import Batch
from archtool.errors import UsageError
from archtool.ir.codec import to_json
from archtool.ir.nesting import Nesting
from archtool.train.objectives.base import Objective, Term, WeightedSum
from archtool.train.objectives.distill import distance
from archtool.train.objectives.passes import Pass
from archtool.train.sampling import Draw, Sampling, axis_groups, drawn, draws, fairness

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from archtool.model.views import Family


class Nested:
    """One pass for each submodel that `Sampling` draws.

    Args:
        family: the compiled submodels of the module that is trained.
        sampling: which of them run in a step.
        terms: what each of them minimises; under the sandwich rule the largest alone, whose outputs the others learn.

    Raises:
        UsageError: losses look at what submodels have not: a skipped block, hidden states of one width.
    """

    def __init__(self, family: "Family", sampling: Sampling, terms: Sequence[Term]) -> None:
        self.family, self.sampling = family, sampling
        self.largest = Recorded(WeightedSum(terms))
        self.others = WeightedSum([Term("in-place", 1.0, InPlace(self.largest, sampling.temperature))])
        self.groups = axis_groups(family.nesting, family.model.architecture)
        self.identity = [to_json(family.nesting), to_json(sampling), self.largest.objective.identity]
        self.trained = self.largest.objective.trained
        _check_places(family.nesting, self.largest.objective)

    def passes(self, module: "nn.Module", batch: Batch, generator: "torch.Generator") -> Iterator[Pass]:
        """See `archtool.train.objectives.passes.Several`."""
        chosen = draws(self.family.nesting, self.groups, self.sampling, generator)
        if self.sampling.rule == "in-batch":
            parts = list(split(batch, len(chosen)))
            for part, draw in zip(parts, chosen, strict=False):
                share = len(part.positions) / len(batch.positions)
                yield from self._pass(module, part, generator, draw, self.largest.objective, share)
        elif self.sampling.rule == "sandwich":
            for i, draw in enumerate(chosen):
                yield from self._pass(module, batch, generator, draw, self.others if i else self.largest)
        else:
            for draw in chosen:
                yield from self._pass(module, batch, generator, draw, self.largest.objective)

    def _pass(
        self, module: "nn.Module", batch: Batch, generator: "torch.Generator", draw: Draw, objective: Objective,
        share: float = 1.0,
    ) -> Iterator[Pass]:  # fmt: skip
        with self.family.member(draw.submodel).running():
            losses = objective(module, batch, generator)
            line = drawn(self.family.nesting, draw, float(losses["loss"].detach()))
            yield Pass({name: share * value for name, value in losses.items()}, line)

    def summary(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """How often each size was drawn, and the mean losses; see `archtool.train.sampling.fairness`."""
        return {"nested": {"rule": self.sampling.rule, **fairness(self.family.nesting, lines)}}


class Recorded:
    """An objective that keeps the outputs of its last pass, detached."""

    def __init__(self, objective: WeightedSum) -> None:
        self.objective = objective
        self.outputs: Mapping[str, Tensor] = {}

    def __call__(self, module: "nn.Module", batch: Batch, generator: "torch.Generator") -> "dict[str, Tensor]":
        """The objective's losses."""

        def keep(_: Any, given: Any, outputs: "Mapping[str, Tensor]") -> None:
            self.outputs = {name: value.detach() for name, value in outputs.items()}

        handle = module.register_forward_hook(keep)
        try:
            return self.objective(module, batch, generator)
        finally:
            handle.remove()


class InPlace:
    """The distance to the outputs that another pass of this step left."""

    def __init__(self, source: Recorded, temperature: float) -> None:
        self.source, self.temperature = source, temperature

    def __call__(self, outputs: "Mapping[str, Tensor]", batch: Batch) -> "Tensor":
        """See `archtool.train.objectives.distill.distance`."""
        return distance(outputs, self.source.outputs, batch, self.temperature)


def _check_places(nesting: Nesting, objective: WeightedSum) -> None:
    skipped = sorted(place for place in objective.places if place.partition(".")[0] in nesting.depth)
    if skipped:
        what = f"a loss looks at {skipped[0]}, which submodels skip"
        raise UsageError(what, "leave depth out of --nested, or use losses of the outputs")
    streams = [axis for axis in nesting.sizes if axis.count(".") < 2]
    if streams and objective.trained is not None:
        what = f"the projectors of hidden states have one width, and {streams[0]} is nested"
        raise UsageError(what, "leave width out of --nested, or use other losses")


def split(batch: Batch, parts: int) -> Iterator[Batch]:
    """The batch in so many parts of about equal size, in order; fewer where it has fewer examples."""
    count = len(batch.positions)
    parts = min(parts, count)
    for i in range(parts):
        rows = slice(i * count // parts, (i + 1) * count // parts)
        inputs, targets = ({k: v[rows] for k, v in side.items()} for side in (batch.inputs, batch.targets))
        passes = None if batch.passes is None else batch.passes[rows]
        yield replace(batch, inputs=inputs, targets=targets, positions=batch.positions[rows], passes=passes)
