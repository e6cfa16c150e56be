"""``prune`` for a module of a user's Python file: the same verb, budgets and report, on torch-pruning's groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from archtool.errors import BudgetError, InputError, MismatchError, UsageError
from archtool.registry import entries
from archtool.run.step import Context, State

if TYPE_CHECKING:
    from torch import Tensor, nn

    from archtool.budget.language import Budget
    from archtool.model.foreign import Foreign
    from archtool.run.steps.prune import PruneOptions
    from archtool.transforms.modules.criteria import Losses, Scores
    from archtool.transforms.modules.graph import Graph
    from archtool.transforms.modules.groups import Group
    from archtool.transforms.modules.widths import Removed

LOSS_FORM = "write FILE.py:FUNCTION, with FUNCTION(module) that yields scalar losses"
RE_SOLVES, MARGIN = 3, 0.97


@dataclass(frozen=True)
class Traced:
    """A module with its groups, its scores and its example inputs."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    graph: Graph
    groups: tuple[Group, ...]
    left: tuple[tuple[str, str], ...]

    @cached_property
    def before(self) -> dict[str, float]:
        """The costs of the module as it is."""
        from archtool.measure.foreign import costs

        return costs(self.module, self.inputs)

    def smaller(self, removed: Removed) -> nn.Module:
        """The module without these units."""
        from archtool.transforms.modules.groups import removal
        from archtool.transforms.modules.slices import sliced

        return sliced(self.module, self.graph, *removal(self.graph, self.groups, removed))

    def costs(self, removed: Removed) -> dict[str, float]:
        """Its costs then."""
        from archtool.measure.foreign import costs

        return costs(self.smaller(removed), self.inputs)


def check_options(options: PruneOptions, module: bool) -> None:
    """Refuse by name what does not apply to a module, or only to one."""
    if module:
        wrong = {"--units": options.units, "--blocks": options.blocks, "--allocation": options.allocation != "uniform"}
        said = "is not for modules of a Python file"
    else:
        wrong = {"--example-input": options.example_input, "--loss": options.loss}
        wrong[f"--criterion {options.criterion}"] = options.criterion not in entries("criteria")
        said = "is only for modules of a Python file"
    for flag, given in wrong.items():
        if given:
            raise UsageError(f"{flag} {said}", "Leave it out.")


def prune_module(state: State, options: PruneOptions, context: Context) -> State:
    """Trace, score, find the widths, prove the result equal to the masked module, and record it."""
    from archtool.measure.foreign import example_inputs

    check_options(options, module=True)
    if options.budget is None:
        raise UsageError("prune needs a budget", "Give --budget params=0.5x.")
    if context.threads:
        import torch

        torch.set_num_threads(context.threads)
    foreign: Foreign = state.checkpoint
    traced = traced_module(foreign, example_inputs(options.example_input, context.seed), context)
    losses = loss_function(options.loss)
    scored = scores_of(traced, options, losses, context)
    removed, latency, budget = solved(traced, scored, options, context)
    small = traced.smaller(removed)
    proved(traced, removed, small)
    after = recorded(state, traced, scored, removed, small, losses)
    return with_budget(after, budget, latency)


def traced_module(foreign: Foreign, inputs: Mapping[str, Tensor], context: Context) -> Traced:
    """The module's groups that can be removed exactly.

    Raises:
        UsageError: a pattern of ``--protect`` that protects nothing.
        InputError: it does not run, cannot be traced, or has no group that can be removed.
    """
    from archtool.transforms.modules.graph import run, trace
    from archtool.transforms.modules.groups import exact_groups
    from archtool.transforms.units import is_protected

    module = foreign.module()
    run(module, inputs)
    names = [name for name, _ in (*module.named_modules(), *module.named_parameters()) if name]
    for pattern in context.recipe.protect:
        if not any(is_protected(name, [pattern]) for name in names):
            raise UsageError(
                f"--protect {pattern!r} matches no part of the module", f"Parts: {', '.join(names[:12])}, …"
            )
    graph = trace(module, inputs)
    with context.progress.phase("groups of channels"):
        groups, left = exact_groups(graph, inputs, context.recipe.protect, context.seed)
    for name, reason in left:
        context.detail(f"{name}: {reason}")
    if not groups:
        said = "; ".join(f"{name} {reason}" for name, reason in left) or "it has no linear layer or convolution"
        raise InputError(f"no channels of this module can be removed exactly: {said}", "See docs/foreign.md.")
    return Traced(module, inputs, graph, tuple(groups), tuple(left))


def loss_function(said: str | None) -> Losses | None:
    """The user's losses of a module."""
    from archtool.model.user_code import beside, load_function, told

    if said is None:
        return None
    path, function = load_function(said, "loss", LOSS_FORM)

    def losses(module: nn.Module) -> Any:
        with beside(path), told(path, "loss"):
            found = function(module)
            yield from found if hasattr(found, "__next__") or isinstance(found, list | tuple) else [found]

    return losses


def scores_of(traced: Traced, options: PruneOptions, losses: Losses | None, context: Context) -> Scores:
    """The units' scores by the criterion."""
    from archtool.transforms.modules.criteria import scores

    with context.progress.phase(f"score by {options.criterion}"):
        return scores(traced.module, traced.groups, options.criterion, losses, context.seed)


def solved(
    traced: Traced, scored: Scores, options: PruneOptions, context: Context
) -> tuple[Removed, str | None, Budget]:
    """What is removed, the measured latencies where there is a limit, and the budget in absolute terms."""
    from archtool.budget.language import Limit, parse_budget
    from archtool.transforms.modules.widths import largest_share

    read = parse_budget(str(options.budget))
    exact = replace(read, terms=tuple(t for t in read.terms if t.kind != "latency")).resolve(traced.before)
    limit, tried = read.limit("latency"), list[str]()
    removed = largest_share(scored, exact, traced.costs, options.multiple)
    if limit is None:
        return removed, None, exact
    for _ in range(RE_SOLVES + 1):
        result = latencies(traced, removed, context)
        before_ms, after_ms = result.get("parent").median_ms, result.get("child").median_ms
        limit_ms = limit.value * before_ms if limit.relative else limit.value
        reached = traced.costs(removed)["macs"]
        tried.append(f"{after_ms:.3g} ms at {reached / traced.before['macs']:.3g}x MACs")
        if after_ms <= limit_ms:
            return removed, result.to_json(), replace(exact, terms=(*exact.terms, Limit("latency", limit_ms)))
        target = Limit("macs", reached * min(MARGIN * limit_ms / after_ms, MARGIN))
        try:
            removed = largest_share(
                scored, replace(exact, terms=(*exact.terms, target)), traced.costs, options.multiple
            )
        except BudgetError as impossible:
            tried.append(impossible.hint)
            break
    raise BudgetError(f"no width meets {limit} in torch", f"Measured: {'; '.join(tried)}.")


def latencies(traced: Traced, removed: Removed, context: Context) -> Any:
    """Medians in milliseconds of the module before and after, in turns, in torch on the example inputs."""
    from archtool.measure.latency import measure_grid
    from archtool.measure.machine import machine
    from archtool.model.foreign import called

    shape = next(iter(traced.inputs.values())).shape or (1,)
    (result,) = measure_grid(
        {"parent": called(traced.module), "child": called(traced.smaller(removed))}, lambda b, n: traced.inputs,
        runtime="torch", batches=(shape[0],), lengths=(shape[-1],),
        threads=context.threads or machine().cores, seed=context.seed, progress=context.progress,
    )  # fmt: skip
    return result


def proved(traced: Traced, removed: Removed, small: nn.Module) -> None:
    """Raise `MismatchError` unless the result equals the module with zeros there and has fewer parameters."""
    from archtool.measure.count import count_parameters
    from archtool.transforms.modules.groups import disagreement

    if not any(removed.values()):
        return
    why = disagreement(traced.graph, traced.module, traced.groups, removed, traced.inputs)
    if not why and count_parameters(small) >= count_parameters(traced.module):
        why = "it has no fewer parameters"
    if why:
        raise MismatchError(
            f"the pruned module is not the module without these channels: {why}", "Nothing was written."
        )


def recorded(
    state: State, traced: Traced, scored: Scores, removed: Removed, small: nn.Module, losses: Losses | None
) -> State:
    """The next state, with both snapshots and what stayed whole."""
    from archtool.measure.foreign import costs
    from archtool.model.foreign import Foreign, tied
    from archtool.transforms.modules.groups import removal
    from archtool.transforms.modules.slices import changed_attributes

    before: Foreign = state.checkpoint
    cuts = [
        {"part": c.part, "side": c.side, "removed": list(c.indices)} | ({"dim": c.dim} if c.side == "dim" else {})
        for c in removal(traced.graph, traced.groups, removed)[0]
    ]
    built = Foreign(before.build).module()
    facts = {
        "attributes": changed_attributes(built, small), "tied": tied(small),
        "removed": [*before.facts()["removed"], cuts],
    }  # fmt: skip
    child = Foreign(before.build, None, (small, facts, traced.inputs))
    records = dict(state.records)
    own = _snapshot(traced, costs(small, traced.inputs), small, losses, removed)
    records.setdefault("parent", _snapshot(traced, traced.before, traced.module, losses, {}))
    records["child"] = own
    records["notes"] = [*records.get("notes", []), *({"what": n, "reason": why} for n, why in traced.left)]
    gone = {name: [scored[name][i] for i in units] for name, units in removed.items()}
    records["scores"] = {name: sum(values) / len(values) for name, values in gone.items() if values}
    metrics = {**own["costs"], **{name: entry["value"] for name, entry in own["metrics"].items()}}
    edits = (*state.edits, {"method": "prune-module", "cuts": cuts})
    return replace(state, checkpoint=child, metrics=metrics, edits=edits, records=records, derived=None)


def _snapshot(
    traced: Traced, found: Mapping[str, float], module: nn.Module, losses: Losses | None, removed: Removed
) -> dict[str, Any]:
    from archtool.transforms.modules.criteria import mean_loss

    quality = {}
    if losses is not None:
        quality = {"loss": {"value": mean_loss(module, losses), "stderr": None, "higher_is_better": False}}
    sizes = {group.name: len(group.units) - len(removed.get(group.name, ())) for group in traced.groups}
    shapes = ", ".join("×".join(map(str, value.shape)) for value in traced.inputs.values())
    kinds = {group.name: group.kind for group in traced.groups}
    return {
        "costs": dict(found), "metrics": quality, "sizes": sizes, "blocks": [], "encodings": {}, "family": "module",
        "facts": {"example_input": shapes, "kinds": kinds},
    }  # fmt: skip


def with_budget(state: State, budget: Budget, latency: str | None) -> State:
    """The state with the budget's outcome and the measured latencies."""
    import json

    from archtool.run.steps.editing import budget_checks

    records, metrics = dict(state.records), dict(state.metrics)
    if latency is not None:
        records["latency"] = [json.loads(latency)]
        child = next(t for t in records["latency"][0]["timings"] if t["name"] == "child")
        metrics["latency_ms"] = child["median_ms"]
    after = replace(state, metrics=metrics)
    records["budgets"] = [*records.get("budgets", []), *budget_checks(budget, after, "prune")]
    return replace(after, records=records)
