"""A model described by the `archtool` section of its config.json, as a transformers class.

The weights keep the names of the file: the module tree is the tree of tensor names. The section's `graph` says
which tensors, and which rows of them, each layer's parts are, and in which order the layers run. Tensors stored
as integers stay so and are decoded where they are used.

Shapes: `B` batch, `T` tokens, `D` width, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.utils.generic import ModelOutput

from archtool.export.remote.cache import CachedContext
from archtool.model.build import run_layer, walk
from archtool.model.context import Graph
from archtool.model.layout import inner_shape, unturn
from archtool.model.primitives import batch_norm, convolve, group_norm, response_norm

OPERATORS: dict[str, type] = {}
FORMULAS: dict[str, type] = {}
DECODERS: dict[str, Callable[[Any, Mapping[str, Tensor], int], Tensor]] = {}


LAYOUT = ("transpose", "interleaved", "lead", "trail")


class Spec:
    """An operator's settings as attributes; subclasses bring its maths."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.__dict__.update({name: _attributes(value) for name, value in settings.items()})

    def out_flow(self, site: Any, flow: Any) -> Any:
        """Shape of what leaves."""
        return flow


def _attributes(value: Any) -> Any:
    if isinstance(value, Mapping):
        return SimpleNamespace(**{name: _attributes(item) for name, item in value.items()})
    return [_attributes(item) for item in value] if isinstance(value, list) else value


class Ref:
    """One logical tensor: whole file tensors or rows of them, turned or decoded."""

    def __init__(self, root: nn.Module, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self.layout: Any = SimpleNamespace(**{key: spec.get(key, 0) for key in LAYOUT})
        self.places = {leaf: _place(root, name) for leaf, name in spec["leaves"].items()}

    def leaves(self) -> dict[str, Tensor]:
        """The stored tensors as they are now."""
        return {leaf: getattr(module, name) for leaf, (module, name) in self.places.items()}

    def tensor(self) -> Tensor:
        """The tensor in its own shape; integers become float32."""
        leaves = {leaf: self._rows(tensor) for leaf, tensor in self.leaves().items()}
        return leaves[""] if "" in leaves else self._decoded(leaves)

    def looked_up(self, ids: Tensor) -> Tensor:
        """Rows of a table; only these are decoded."""
        if "" in self.places:
            return F.embedding(ids, self.tensor())
        leaves = {leaf: self._rows(tensor)[ids.reshape(-1)] for leaf, tensor in self.leaves().items()}
        return self._decoded(leaves).unflatten(0, ids.shape)

    def _decoded(self, leaves: Mapping[str, Tensor]) -> Tensor:
        encoding = SimpleNamespace(**self.spec["encoding"])
        return DECODERS[encoding.kind](encoding, leaves, self.spec["columns"])

    def _rows(self, tensor: Tensor) -> Tensor:
        if "item" in self.spec:
            tensor = tensor[self.spec["item"]]
        tensor = unturn(self.layout, tensor.reshape(inner_shape(self.layout, tensor.shape)))
        return tensor[slice(*self.spec["rows"])] if "rows" in self.spec else tensor


def _place(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return root.get_submodule(path), leaf


class Constants:
    """Lists of numbers, or formulas, as tensors; made once for each device."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values
        self.made: dict[Any, Tensor] = {}

    def on(self, index: int, device: torch.device) -> Tensor:
        """One of them."""
        if (index, device) not in self.made:
            value = self.values[index]
            if isinstance(value, Mapping):
                made = FORMULAS[value["kind"]](value).values()
            else:
                made = torch.tensor(value[1], dtype=getattr(torch, value[0]))
            self.made[index, device] = made.to(device)
        return self.made[index, device]


class Part:
    """A piece of a layer: its tensors by leaf name and its settings."""

    def __init__(self, root: nn.Module, constants: Constants, spec: Mapping[str, Any]) -> None:
        self.spec, self.constants = spec, constants
        self.settings = SimpleNamespace(**spec)
        self.refs = {leaf: Ref(root, ref) for leaf, ref in spec.get("tensors", {}).items()}

    @property
    def bias(self) -> Tensor | None:
        """The bias, if there is one."""
        return self.refs["bias"].tensor() if "bias" in self.refs else None

    def resolve(self, device: torch.device) -> Any:
        """What a layer sees under the part's name: something to call, or a tensor."""
        return self


class LinearPart(Part):
    """`y = x Wᵀ + b`."""

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        return F.linear(x, self.refs["weight"].tensor().to(x.dtype), self.bias)


class TablePart(Part):
    """Rows of a table."""

    def __call__(self, ids: Tensor) -> Tensor:
        """(...) ids → (..., width)."""
        return self.refs["weight"].looked_up(ids)


class ConvPart(Part):
    """A convolution; the number of groups follows from the shapes."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, T), (B, C, H, W) or (B, C, F, H, W) → the same with other channels and extents."""
        weight = self.refs["weight"].tensor().to(x.dtype)
        return convolve(x, weight.reshape(len(weight), -1, *self.spec["kernel"]), self.bias, self.settings)


class NormPart(Part):
    """LayerNorm, RMSNorm (statistics in float32), BatchNorm, GroupNorm over tokens and channels, GRN."""

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) → (..., D)."""
        kind, eps = self.spec["kind"], self.spec["eps"]
        weight = self.refs["weight"].tensor() if "weight" in self.refs else None
        if kind == "layer":
            return F.layer_norm(x, x.shape[-1:], weight, self.bias, eps)
        if kind == "group":
            return group_norm(x, weight, self.bias, eps)
        if kind == "grn":
            return response_norm(x, weight, self.bias, eps)
        if kind == "batch":
            mean, variance = (self.refs[name].tensor() for name in ("running_mean", "running_var"))
            return batch_norm(x, mean, variance, weight, self.bias, eps)
        return self._rms(x, weight)

    def _rms(self, x: Tensor, weight: Tensor | None) -> Tensor:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.spec["eps"])
        if self.spec["offset"] and weight is not None:
            return (normed * (self.spec["offset"] + weight.to(wide.dtype))).to(x.dtype)
        return normed.to(x.dtype) if weight is None else weight * normed.to(x.dtype)


class VectorPart(Part):
    """A tensor by itself."""

    def resolve(self, device: torch.device) -> Tensor:
        """The tensor."""
        return self.refs[""].tensor()


class WitnessPart(Part):
    """A tensor without entries that carries sizes (heads and queries per head)."""

    def resolve(self, device: torch.device) -> Tensor:
        """An empty tensor of the stated shape."""
        return torch.empty(self.spec["shape"], device=device)


class ConstantPart(Part):
    """Numbers that are part of the configuration: rotary frequencies, index tables, positions."""

    def resolve(self, device: torch.device) -> Tensor:
        """The numbers."""
        return self.constants.on(self.spec["index"], device)


PARTS: dict[str, type[Part]] = {
    "linear": LinearPart,
    "table": TablePart,
    "conv": ConvPart,
    "norm": NormPart,
    "vector": VectorPart,
    "witness": WitnessPart,
    "constant": ConstantPart,
}


class Parts:
    """The parts of one layer as attributes; a call runs it."""

    def __init__(self, parts: Mapping[str, Part], device: torch.device) -> None:
        self.__dict__.update({name: part.resolve(device) for name, part in parts.items()})

    def __call__(self, layer: Any, source: Any, x: Any, ctx: Any, beside: tuple[Any, ...] = ()) -> Tensor:
        """What leaves the layer."""
        return run_layer(self, layer, source, x, ctx, beside)


class ArchtoolConfig(PretrainedConfig):
    """The configuration; everything that the model needs is in its `archtool` section."""

    model_type = "archtool"


@dataclass
class ArchtoolOutput(ModelOutput):
    """What the heads give; `last_hidden_state` comes after the final norm."""

    logits: Tensor | None = None
    forecast: Tensor | None = None
    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    past_key_values: Any = None


OUTPUT_NAMES = {"hidden": "last_hidden_state", "pooled": "pooler_output"}


class Site:
    """Where a layer stands: the sizes of its own axes."""

    def __init__(self, name: str, sizes: Mapping[str, int]) -> None:
        self.name, self.sizes = name, sizes

    def size(self, local: str) -> int:
        """Size of a local axis."""
        return self.sizes[f"{self.name}.{local}"]


class Network:
    """The layers in their order, and where their tensors are in a model (`root`)."""

    def __init__(self, root: nn.Module, spec: Mapping[str, Any]) -> None:
        self.constants = Constants(spec["constants"])
        self.places = {place: self._parts(root, parts) for place, parts in spec["parts"].items()}
        blocks = [_block(block) for block in spec["blocks"]]
        named = {
            f"{block.name}.{layer.name}": f"{block.owner}.{layer.name}" for block in blocks for layer in block.layers
        }
        sites = {key: Site(place, spec["sizes"]) for key, place in named.items()}
        self.outputs = [tuple(pair) for pair in spec["outputs"]]
        kept = [block for _, block in self.outputs]
        self.graph = Graph(blocks, spec["inputs"], sites, [*kept, spec.get("memory", "")])
        self.cache_index = {name: i for i, name in enumerate(n for n in named if n in spec["cached"])}
        self.learned_positions = bool(spec["learned_positions"])

    def _parts(self, root: nn.Module, parts: Mapping[str, Any]) -> dict[str, Part]:
        return {name: PARTS[spec["part"]](root, self.constants, spec) for name, spec in parts.items()}

    def walk(self, ctx: CachedContext) -> dict[str, Tensor]:
        """What leaves each block."""
        device = next(iter(ctx.inputs.values())).device
        return walk(ctx, lambda block, layer: Parts(self.places[f"{block.owner}.{layer.name}"], device))

    def named(self, left: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All outputs by their names in transformers."""
        return {OUTPUT_NAMES.get(name, name): left[block] for name, block in self.outputs}


class ArchtoolModel(PreTrainedModel):
    """Runs the graph of its configuration; the modules below it are named as the tensors of the file."""

    config_class = ArchtoolConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        spec = config.archtool["graph"]
        for name, (dtype, shape) in spec["tensors"].items():
            _register(self, name, dtype, shape)
        self._network = Network(self, spec)
        self.main_input_name = spec["inputs"][0]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """All weights come from the file."""

    def get_input_embeddings(self) -> Any:
        """Tables keep the names of the file; there is no module to hand out."""
        return None

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> ArchtoolOutput | tuple[Any, ...]:
        """Run the model; `others` may hold further inputs of the graph by name.

        `labels`, `output_attentions`, `output_hidden_states` and embeddings instead of ids are refused.
        """
        inputs = given_inputs(self._network.graph.inputs, {
            **others, "input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids,
            "pixel_values": pixel_values,
        })  # fmt: skip
        index = self._network.cache_index
        if past_key_values is None and use_cache and index:
            past_key_values = DynamicCache()
        ctx = CachedContext(self._network.graph, inputs, past_key_values if index else None, index)
        self._check_positions(position_ids, ctx)
        out = ArchtoolOutput(**self._network.named(self._network.walk(ctx)), past_key_values=past_key_values)
        return out.to_tuple() if return_dict is False else out

    def _check_positions(self, position_ids: Tensor | None, ctx: CachedContext) -> None:
        if position_ids is None or not self._network.learned_positions:
            return
        if not torch.equal(position_ids, ctx.positions.expand_as(position_ids)):
            raise ValueError("this model counts positions from the first token: pad on the right, not on the left")


class ArchtoolForCausalLM(GenerationMixin, ArchtoolModel):  # type: ignore[misc]
    """The same with `generate`."""


def _register(root: nn.Module, name: str, dtype: str, shape: Sequence[int]) -> None:
    """Add a tensor under its dotted name, making the modules on the way; without a dtype it is a parameter."""
    *path, leaf = name.split(".")
    module = root
    for step in path:
        if step not in module._modules:
            module.add_module(step, nn.Module())
        module = module.get_submodule(step)
    if dtype:
        module.register_buffer(leaf, torch.empty(shape, dtype=getattr(torch, dtype)))
    else:
        module.register_parameter(leaf, nn.Parameter(torch.empty(shape)))


def _block(spec: Mapping[str, Any]) -> SimpleNamespace:
    layers = [SimpleNamespace(**{**layer, "op": _operator(layer["op"])}) for layer in spec["layers"]]
    return SimpleNamespace(**{**spec, "layers": layers})


def _operator(spec: Mapping[str, Any] | None) -> Any:
    return None if spec is None else OPERATORS[spec["kind"]](spec)


def given_inputs(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, Tensor]:
    """The graph's inputs, masks and segments among what was given; what the model does not take is refused."""
    refused = ("labels", "output_attentions", "output_hidden_states", "inputs_embeds", "head_mask")
    asked = [name for name in refused if not (given.get(name) is None or given.get(name) is False)]
    if asked:
        raise ValueError(f"this model does not take {', '.join(asked)}")
    read = (*names, "attention_mask", "token_type_ids", "decoder_attention_mask", "past_observed_mask")
    return {name: given[name] for name in read if given.get(name) is not None}
