"""Edits: what a transform decides, as data. One object gives dry run, diff, resume, provenance and replay.

An `Edit` is a list of decisions plus, where a method refits values, a *delta*: new tensors by canonical name.
`edited` applies the decisions to an architecture and plan; `model.apply` does the same to weights. An edit that
the axis table does not allow is refused by name, never approximated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from archtool.errors import InputError
from archtool.ir.architecture import Architecture, Block, Layer, Place, place_flows
from archtool.ir.axes import Dim, Selection, Selections, kept_indices
from archtool.ir.encodings import Encoding, EncodingPlan
from archtool.ir.feeds import entering as fed
from archtool.ir.fold import Folding, folded, folding
from archtool.ir.table import Claim, claims, stored


class RefusedEdit(InputError):
    """The axis table does not allow the edit exactly; the message names the operator and the axis."""


@dataclass(frozen=True)
class Select:
    """Keep some indices of an axis; ``scores`` are the method's, one per original index, for the report."""

    selection: Selection
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Drop:
    """Remove a block, or one residual layer of it."""

    block: str
    layer: str = ""


@dataclass(frozen=True)
class Encode:
    """Store a tensor under an encoding."""

    tensor: str
    encoding: Encoding


@dataclass(frozen=True)
class Unshare:
    """Give a block its own copy of the tensors that it shares, or one layer its own copy of a tied tensor."""

    block: str
    layer: str = ""


@dataclass(frozen=True)
class Fold:
    """Make a norm part of the linear layers before or after it: ``"branch"``, ``"pre"``, or one of the operator's own.

    A BatchNorm is gone afterwards; of a norm whose statistics are each sample's own, the gain and bias are (1 and 0).
    """

    block: str
    layer: str
    norm: str = "branch"


Decision = Select | Drop | Encode | Unshare | Fold


@dataclass(frozen=True)
class Edit:
    """What to change.

    Attributes:
        method: the transform's name.
        decisions: in order; selections that stand together refer to the axes as they are before all of them.
        delta: canonical names (after the decisions) of tensors whose new values come with the edit.
        notes: (name, text) pairs for the report: skipped layers with their reasons, settings.
    """

    method: str
    decisions: tuple[Decision, ...]
    delta: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True)
class Step:
    """One stage of applying an edit.

    Attributes:
        before / after: the architecture on both sides.
        selections: by axis.
        copies: storage that is new in ``after`` → the storage whose values it starts with.
        folding: what became part of what.
    """

    before: Architecture
    after: Architecture
    selections: Mapping[str, Selection] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    folding: Folding | None = None

    def plan(self, before: EncodingPlan) -> EncodingPlan:
        """The encodings of what is left; a copy is stored as its source."""
        return EncodingPlan().with_entries({s: before.of(self.copies.get(s, s)) for s in stored(self.after)})


def steps(arch: Architecture, edit: Edit) -> tuple[Step, ...]:
    """The structural stages of an edit; selections that stand together form one stage."""
    done: list[Step] = []
    pending: dict[str, Selection] = {}

    def flush() -> None:
        nonlocal arch
        if pending:
            after = select(arch, pending)
            done.append(Step(arch, after, dict(pending)))
            arch = after
            pending.clear()

    for decision in edit.decisions:
        if isinstance(decision, Select):
            if decision.selection.axis in pending:
                flush()
            pending[decision.selection.axis] = decision.selection
        elif isinstance(decision, Drop):
            flush()
            after = drop(arch, decision)
            done.append(Step(arch, after))
            arch = after
        elif isinstance(decision, Unshare):
            flush()
            after, copies = unshare(arch, decision)
            done.append(Step(arch, after, {}, copies))
            arch = after
        elif isinstance(decision, Fold):
            flush()
            after, folding = fold(arch, decision)
            done.append(Step(arch, after, folding=folding))
            arch = after
    flush()
    return tuple(done)


def edited(arch: Architecture, plan: EncodingPlan, edit: Edit) -> tuple[Architecture, EncodingPlan]:
    """The architecture and plan after an edit."""
    return outcome(arch, plan, edit, steps(arch, edit))


def outcome(
    arch: Architecture, plan: EncodingPlan, edit: Edit, stages: Sequence[Step]
) -> tuple[Architecture, EncodingPlan]:
    """The architecture and plan after an edit whose structural ``stages`` are known."""
    after = stages[-1].after if stages else arch
    for step in stages:
        plan = step.plan(plan)
    changes = {d.tensor: d.encoding for d in edit.decisions if isinstance(d, Encode)}
    return after, checked_plan(after, plan.with_entries(changes))


def checked_plan(arch: Architecture, plan: EncodingPlan) -> EncodingPlan:
    """The plan without tensors that are gone; refuses encodings that a tensor's shape does not take."""
    specs = stored(arch)
    kept = {name: encoding for name, encoding in plan.entries if name in specs}
    for name, encoding in kept.items():
        shape = tuple(d.size(arch.size) for d in specs[name].dims)
        decoded = "only linear layers, convolutions and tables are decoded"
        reason = encoding.refuses(shape) if specs[name].encodable else decoded
        if reason:
            raise RefusedEdit(f"{name} cannot be stored as {encoding.kind}: {reason}", "Choose another group or bits.")
    return EncodingPlan(tuple(sorted(kept.items())))


def select(arch: Architecture, selections: Selections) -> Architecture:
    """The architecture after selections on distinct axes."""
    for selection in selections.values():
        _check_legal(arch, selection)
    _check_shared(arch, selections)
    blocks = tuple(_selected_block(block, selections) for block in arch.blocks)
    sizes = {axis: s.count() for axis, s in selections.items()}
    return replace(arch, blocks=blocks).resized(sizes)


def _selected_block(block: Block, selections: Selections) -> Block:
    return replace(block, layers=tuple(_selected_layer(block.owner, layer, selections) for layer in block.layers))


def _selected_layer(owner: str, layer: Layer, selections: Selections) -> Layer:
    if layer.op is None:
        return layer
    op = layer.op
    for local in op.local_axes:
        chosen = selections.get(f"{owner}.{layer.name}.{local}")
        if chosen:
            op = op.selected(local, chosen.keep, chosen.per)
    for axis, chosen in selections.items():
        op = op.followed(axis, chosen.keep)
    return layer if op is layer.op else replace(layer, op=op)


def _check_legal(arch: Architecture, selection: Selection) -> None:
    axis = selection.axis
    if axis not in arch.size:
        known = ", ".join(sorted(arch.size)[:12])
        raise RefusedEdit(f"there is no axis {axis!r}", f"Axes of this model: {known}, …")
    flat = selection.flat()
    if not flat:
        raise RefusedEdit(f"nothing would be left of {axis}", "Keep at least one, or drop the layer.")
    if min(flat) < 0 or max(flat) >= arch.size[axis]:
        raise RefusedEdit(f"{axis} has {arch.size[axis]} entries; index {max(flat)} is none of them", "")
    for place in arch.places:
        op, local = place.layer.op, axis.removeprefix(f"{place.name}.")
        if op and local in op.local_axes and "select" not in op.local_axes[local]:
            raise RefusedEdit(f"operator {op.kind} at {place.name} does not allow a selection on {local!r}", "")
        reason = op.refuses(axis, selection.keep) if op else ""
        if reason:
            raise RefusedEdit(f"{place.name}: {reason}", "Keep those entries in place.")


def _check_shared(arch: Architecture, selections: Selections) -> None:
    """A tensor used at several places must lose the same entries at all of them."""
    first: dict[str, Claim] = {}
    for claim in claims(arch):
        other = first.setdefault(claim.spec.storage, claim)
        if other is claim or other.spec.dims == claim.spec.dims:
            continue
        for mine, theirs in zip(claim.spec.dims, other.spec.dims, strict=True):
            if indices(mine, arch, selections) != indices(theirs, arch, selections):
                raise RefusedEdit(
                    f"{claim.spec.storage} is shared by {other.place.name} and {claim.place.name}; "
                    f"the selection would cut it differently for each",
                    "Select the same entries at both, or put an Unshare decision before.",
                )


def indices(dimension: Dim, arch: Architecture, selections: Selections) -> Sequence[int] | None:
    """Kept flat indices of a dimension, or None where no selection touches it."""
    if not any(axis in selections for axis in dimension.axes()):
        return None
    try:
        return kept_indices(dimension, arch.size, selections)
    except KeyError as missing:
        raise RefusedEdit(
            f"a selection per {missing} needs that axis wherever the selected one is; ({dimension}) lacks it",
            "Select the same indices for every entry of the outer axis.",
        ) from None


def drop(arch: Architecture, what: Drop) -> Architecture:
    """The architecture without a block, or with one layer reduced to the identity (its post-norm stays)."""
    if what.block not in arch.index:
        raise RefusedEdit(f"there is no block {what.block!r}", f"Blocks: {', '.join(arch.index)}.")
    return _drop_layer(arch, what) if what.layer else _drop_block(arch, what.block)


def unshare(arch: Architecture, what: Unshare) -> tuple[Architecture, Mapping[str, str]]:
    """The architecture in which a block or layer owns its tensors, and where their values come from."""
    if what.block not in arch.index:
        raise RefusedEdit(f"there is no block {what.block!r}", f"Blocks: {', '.join(arch.index)}.")
    block = arch.block(what.block)
    layers = tuple(_untied(layer) if layer.name == what.layer else layer for layer in block.layers)
    own = replace(block, layers=layers) if what.layer else replace(block, share="")
    if own == block:
        raise RefusedEdit(f"{what.block}{'.' * bool(what.layer)}{what.layer} shares no tensor", "")
    mine, prefix = f"{own.owner}.", f"{block.owner}."
    sizes = {mine + axis.removeprefix(prefix): n for axis, n in arch.sizes if axis.startswith(prefix)}
    blocks = tuple(own if b is block else b for b in arch.blocks)
    after = replace(arch, blocks=blocks, sizes=tuple({**arch.size, **sizes}.items()))
    storage = {claim.name: claim.spec.storage for claim in claims(arch)}
    new = [name for name in stored(after) if name not in stored(arch)]
    return after, {name: storage[prefix + name.removeprefix(mine)] for name in new}


def fold(arch: Architecture, what: Fold) -> tuple[Architecture, Folding]:
    """The architecture in which a norm is part of the linear layers beside it."""
    found = folding(arch, what.block, what.layer, what.norm)
    if isinstance(found, str):
        raise RefusedEdit(f"{what.block}.{what.layer}.{what.norm} cannot be folded: {found}", "Leave it as it is.")
    return folded(arch, what.block, what.layer, found), found


def _untied(layer: Layer) -> Layer:
    return replace(layer, op=replace(layer.op, tie="")) if getattr(layer.op, "tie", "") and layer.op else layer  # type: ignore[call-arg]


def _drop_layer(arch: Architecture, what: Drop) -> Architecture:
    block = arch.block(what.block)
    layer = next((item for item in block.layers if item.name == what.layer), None)
    if layer is None or not layer.residual:
        raise RefusedEdit(f"{what.block}.{what.layer} is not a residual layer", "Only residual layers can be dropped.")
    layers = _without_branch(block, layer)
    if not layers:
        return _drop_block(arch, block.name)
    blocks = tuple(replace(b, layers=layers) if b is block else b for b in arch.blocks)
    return _without_unused(replace(arch, blocks=blocks), f"{what.block}.{what.layer}")


def _without_branch(block: Block, last: Layer) -> tuple[Layer, ...]:
    """The layers without the branch that ends with ``last`` (its post-norm stays)."""
    names = [layer.name for layer in block.layers]
    end = names.index(last.name)
    branch = names[names.index(last.since or last.name) : end + 1]
    left = () if last.post is None else (Layer(last.name, None, post=last.post, residual=False),)
    first, *inner = branch
    follower = last.name if left else "".join(names[end + 1 : end + 2])
    kept: list[Layer] = []
    for layer in block.layers:
        if layer.name not in branch:
            if layer.since in inner:
                raise RefusedEdit(
                    f"{block.name}.{layer.name} adds what enters {layer.since}, a layer inside of {last.name}'s branch",
                    f"Drop {layer.name} before.",
                )
            since = follower if layer.since == first else layer.since
            kept.append(replace(layer, since="" if since == layer.name else since))
        elif layer is last:
            kept.extend(left)
    return tuple(kept)


def _drop_block(arch: Architecture, name: str) -> Architecture:
    i = arch.index[name]
    block = arch.blocks[i]
    entering = block.inputs or ((arch.blocks[i - 1].name,) if i else ())
    places = [p for p in arch.places if p.block is block]
    if len(entering) != 1 or not places or places[0].site.inputs[:1] != (places[-1].leaving,):
        raise RefusedEdit(f"block {name} does not leave what enters it, so it cannot be dropped", "")
    if _changes_flow(arch, places):
        raise RefusedEdit(f"block {name} changes the number of tokens, so it cannot be dropped", "")
    if any(b.share == name for b in arch.blocks):
        raise RefusedEdit(f"block {name} owns tensors that other blocks share", "Drop a block that shares instead.")
    follower = arch.blocks[i + 1 : i + 2]
    rest = tuple(
        _rewired(b, b.inputs or ((name,) if b in follower and block.inputs else ()), name, entering[0])
        for b in arch.blocks if b is not block
    )  # fmt: skip
    outputs = tuple((out, entering[0] if b == name else b) for out, b in arch.outputs)
    return _without_unused(replace(arch, blocks=rest, outputs=outputs), name)


def _rewired(block: Block, inputs: tuple[str, ...], gone: str, instead: str) -> Block:
    def named(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(instead if name == gone else name for name in names)

    layers = tuple(replace(layer, reads=named(layer.reads)) for layer in block.layers)
    return replace(block, inputs=named(inputs), layers=layers)


def _changes_flow(arch: Architecture, places: Sequence[Place]) -> bool:
    """Whether other tokens, or other sequences of them, leave than enter."""
    flows = dict(zip((p.key for p in arch.places), place_flows(arch, fed(arch)), strict=True))
    entering = flow = replace(flows[places[0].key], beside=())
    for place in places:
        if place.layer.op and place.layer.source == "previous":
            flow = replace(place.layer.op.out_flow(place.site, flows[place.key]), beside=())
    return flow != entering


def _without_unused(arch: Architecture, dropped: str) -> Architecture:
    """Without the sizes of axes that no operator has any more; refuses to leave a shared tensor without owner."""
    left = {claim.name for claim in claims(arch)}
    for claim in claims(arch):
        if claim.spec.storage not in left:
            raise RefusedEdit(
                f"{dropped} owns {claim.spec.storage}, which {claim.place.name} shares",
                "Drop a layer that shares instead.",
            )
    gone = {axis for axis, _ in arch.sizes if axis.count(".") >= 2} - _local_axes(arch)
    return replace(arch, sizes=tuple((axis, n) for axis, n in arch.sizes if axis not in gone))


def _local_axes(arch: Architecture) -> set[str]:
    return {f"{p.name}.{local}" for p in arch.places if p.layer.op for local in p.layer.op.local_axes}
