"""The axis table against the groups that torch-pruning traces on transformers' own model.

For every axis that a family's tensors have, the modules that a selection cuts (module and side) are compared with
torch-pruning's group for the same output. Where they differ, both are tried on the same model: ours must equal its
masked parent; torch-pruning's pruned model either does not run, or is compared with the masked parent too. Claims:
the number of axes where ours is wrong, and the number of disagreements, which are listed on stderr and in the note.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import ROOT, arguments, emit

sys.path.insert(0, str(ROOT))
FAMILIES = (
    "swin", "segformer", "pvt_v2", "poolformer", "convnext", "mobilevit", "mobilevitv2", "t5", "marian", "patchtst",
    "mamba",
)  # fmt: skip
PAGE = """# Groups: the axis table and torch-pruning

Written by `python benchmarks/field_groups.py --write docs/groups.md`. For each family, a small model of transformers is
traced by torch-pruning; its group for a layer's outputs is compared with the modules that a selection of our axis
cuts. Every difference stands below, with what became of both: *ours exact* is the largest relative difference
between the sliced model and its masked parent. An axis of several indices per unit (heads) has no counterpart there.

| family | axis | torch-pruning, and ours |
|---|---|---|"""
Sides = frozenset[tuple[str, str]]


def main() -> None:
    """Every family of the field."""
    parser = arguments(__doc__)
    parser.add_argument("--only", metavar="NAME", help="one family")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also list every disagreement in this page")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[str] = []
    for name in FAMILIES:
        if asked.only in (None, name):
            found = compared(name)
            rows += [f"| {name} | `{axis}` | {said} |" for axis, said in found.items() if axis]
            report(name, found)
    if asked.write:
        asked.write.write_text("\n".join((PAGE, *rows)) + "\n", encoding="utf-8")


def compared(name: str) -> dict[str, str]:
    """Axis → what was found, for every axis whose groups are not the same; the axes that agree are counted."""
    reference, checkpoint, modules, feed = models(name)
    theirs, ours = traced(reference, feed), sides(checkpoint, modules)
    found: dict[str, str] = {}
    for axis, mine in ours.items():
        root = next((module for module, side in sorted(mine) if side == "out" and module in theirs), None)
        if root is None:
            found[axis] = f"torch-pruning has no group; ours {exactness(checkpoint, axis)}"
        elif theirs[root] != mine:
            said = f"torch-pruning {difference(mine, theirs[root])}: {attempted(reference, root, feed)}"
            found[axis] = f"{said}; ours {exactness(checkpoint, axis)}"
    return found | {"": f"{len(ours)} axes"}


def models(name: str) -> tuple[Any, Any, dict[str, str], dict[str, Any]]:
    """transformers' model, the same as a checkpoint of ours, tensor of the file → module, and inputs."""
    import torch
    import transformers

    from archtool.export.reference import reference_inputs
    from archtool.model.load import load
    from tests.model.tiny import CONFIGS

    torch.manual_seed(0)
    stated = dict(CONFIGS[name])
    config = transformers.AutoConfig.for_model(stated.pop("model_type"), **stated)
    heads = {"t5": "T5ForConditionalGeneration", "marian": "MarianMTModel", "mamba": "MambaForCausalLM"}
    cls = getattr(transformers, (stated.get("architectures") or [heads.get(name)])[0] or "AutoModel")
    made = (cls(config) if cls is not transformers.AutoModel else cls.from_config(config)).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn(p.shape) * 0.1)
        for buffer in (b for n, b in made.named_buffers() if "running" in n):
            buffer.add_(torch.rand(buffer.shape))
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        from archtool.model.checkpoint import of_module

        checkpoint = of_module(load(Path(folder)).module())
        modules = modules_of(made, Path(folder))
    feed = reference_inputs(checkpoint.architecture)
    return made, checkpoint, modules, {k: v for k, v in feed.items() if "mask" not in k}


def modules_of(model: Any, folder: Path) -> dict[str, str]:
    """File tensor → the module that holds it, by value: names in files and in modules need not be the same."""
    from safetensors.torch import load_file

    held = {tensor.detach().numpy().tobytes(): name.rpartition(".")[0] for name, tensor in model.state_dict().items()}
    saved = {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    return {name: held.get(tensor.numpy().tobytes(), "") for name, tensor in saved.items()}


def sides(checkpoint: Any, modules: Mapping[str, str]) -> dict[str, Sides]:
    """Axis → (module of the file, side) for every tensor that a selection of it cuts."""
    from archtool.families.registry import family_named
    from archtool.ir.parts import Role
    from archtool.ir.table import axes, axis_claims

    arch = checkpoint.architecture
    file = {piece: e.file for e in family_named(arch.family).names(arch) for piece in e.pieces}
    table: dict[str, Sides] = {}
    for axis in axes(arch):
        found: set[tuple[str, str]] = set()
        roles = set()
        for claim in axis_claims(arch, axis):
            module = modules.get(file.get(claim.spec.storage, ""), "")
            for dimension, role in zip(claim.spec.dims, claim.spec.roles, strict=True):
                if axis in dimension.axes() and module:
                    roles.add(role)
                    found.add((module, "in" if role is Role.CONSUMES else "out"))
        if Role.PRODUCES in roles and Role.INDEX not in roles and arch.size[axis] > 1:
            table[axis] = frozenset(found)
    return table


def traced(reference: Any, feed: Mapping[str, Any]) -> dict[str, Sides]:
    """Module → its group, for the outputs of every linear layer and convolution."""
    from torch import nn

    graph, names = dependency_graph(reference, feed), {m: n for n, m in reference.named_modules()}
    found: dict[str, Sides] = {}
    for module, name in names.items():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            group = pruning_group(graph, module)
            if group is not None:
                items = (item.dep for item in group)
                pairs = {(names.get(d.target.module, ""), "out" if graph.is_out_channel_pruning_fn(d.handler) else "in")
                         for d in items}  # fmt: skip
                found[name] = frozenset((n, side) for n, side in pairs if n)
    return found


def dependency_graph(reference: Any, feed: Mapping[str, Any]) -> Any:
    """torch-pruning's graph of a model, or None where it cannot be traced."""
    import torch_pruning as tp

    first = {"logits", "prediction_outputs", "last_hidden_state"}

    def forward(model: Any, inputs: Mapping[str, Any]) -> Any:
        out = model(**inputs)
        return [value for name, value in out.items() if name in first]

    return tp.DependencyGraph().build_dependency(reference, example_inputs=dict(feed), forward_fn=forward)


def pruning_group(graph: Any, module: Any) -> Any:
    """The group of one layer's outputs; None where torch-pruning fails to follow it."""
    import torch_pruning as tp

    rule = tp.prune_conv_out_channels if hasattr(module, "kernel_size") else tp.prune_linear_out_channels
    try:
        return graph.get_pruning_group(module, rule, idxs=[0])
    except (ValueError, KeyError, RuntimeError, IndexError, AssertionError, ZeroDivisionError):
        return None


def difference(mine: Sides, theirs: Sides) -> str:
    """How two groups differ, in short."""
    less, more = sorted(mine - theirs), sorted(theirs - mine)
    parts = [f"leaves out {len(less)} ({less[0][0]} {less[0][1]}, …)"] if less else []
    parts += [f"adds {len(more)} ({more[0][0]} {more[0][1]}, …)"] if more else []
    return " and ".join(parts)


def attempted(reference: Any, root: str, feed: Mapping[str, Any]) -> str:
    """What becomes of the model when torch-pruning removes output 0 of a layer."""
    import torch

    model = copy.deepcopy(reference)
    graph = dependency_graph(model, feed)
    try:
        pruning_group(graph, model.get_submodule(root)).prune()
        with torch.no_grad():
            model(**feed)
    except Exception as why:  # any failure of a foreign library is the finding
        return f"its pruned model does not run ({type(why).__name__}: {str(why).splitlines()[0][:80]})"
    return "its pruned model runs with one index of what is one unit for us"


def exactness(checkpoint: Any, axis: str) -> str:
    """Our selection of all but the first index, against the masked parent."""
    from archtool.errors import ArchtoolError
    from archtool.export.reference import reference_inputs
    from archtool.ir.axes import Selection
    from archtool.ir.edit import Edit, Select
    from archtool.ir.table import alike
    from archtool.model.apply import apply
    from archtool.model.masked import masked_parent

    arch = checkpoint.architecture
    tied = alike(arch).get(axis, (axis,))
    edit = Edit("groups", tuple(Select(Selection(a, tuple(range(1, arch.size[a])))) for a in tied))
    feed = reference_inputs(arch)
    try:
        small, masked = apply(checkpoint, edit).module()(**feed), masked_parent(checkpoint.module(), edit)(**feed)
    except ArchtoolError as refused:
        return f"refuses: {refused.what}"
    same = {name: value for name, value in small.items() if value.shape == masked[name].shape}
    worst = max((float((v - masked[n]).abs().max() / v.abs().max().clamp_min(1)) for n, v in same.items()), default=0.0)
    return f"exact ({worst:.0e})" if worst <= 1e-5 else f"WRONG ({worst:.0e})"


def report(name: str, found: dict[str, str]) -> None:
    """Print the claims of one family."""
    total = found.pop("")
    for axis, said in found.items():
        print(f"{name} {axis}: {said}", file=sys.stderr)
    kinds: dict[str, list[str]] = {}
    for axis, said in found.items():
        kinds.setdefault(axis.rpartition(".")[2] + ": " + said.partition(" (")[0], []).append(axis)
    note = "; ".join(f"{kind} [{len(axes)}: {axes[0]}]" for kind, axes in kinds.items())
    emit(f"field.groups.{name}.ours_wrong", sum("WRONG" in said for said in found.values()), note=total)
    emit(f"field.groups.{name}.disagreements", len(found), note=note)


if __name__ == "__main__":
    main()
