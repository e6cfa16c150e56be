"""An encoder-decoder as a transformers class: the encoder runs once, the decoder steps, `generate` works.

`EncoderDecoderCache` holds the keys and values of the decoder's own tokens, and those of the encoder's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import GenerationMixin
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from archtool.export.remote.cache import CachedContext
from archtool.export.remote.runtime import ArchtoolModel, ArchtoolOutput, given_inputs
from archtool.model.context import Graph


class SteppingContext(CachedContext):
    """One forward pass over a decoder, and over the encoder where its output is not given (`memory`)."""

    def __init__(
        self, graph: Any, inputs: dict[str, Tensor], cache: Any, index: Mapping[str, int], read: Mapping[str, int]
    ) -> None:
        super().__init__(graph, inputs, None if cache is None else cache.self_attention_cache, index)
        self.both, self.read, self.state = cache, read, {"kept": {}}

    def remember(self, block: str, memory: Tensor) -> None:
        """Take the encoder's output instead of running it."""
        kept: dict[str, Any] = {b.name: None for b in self.graph.blocks if not self.graph.steps(b.name)}
        self.state = {"kept": kept | {block: memory}}

    def keep(self, compute: Any) -> Any:
        """Keys and values of the encoder's output: computed at the first step, then taken from the cache."""
        if self.both is None:
            return compute()
        cache, i = self.both.cross_attention_cache, self.read[self.place]
        if not self.both.is_updated.get(i):
            self.both.is_updated[i] = True
            return cache.update(*compute(), i)
        return cache.layers[i].keys, cache.layers[i].values


class Encoder:
    """The blocks before the decoder, as `generate` calls them."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **others: Any
    ) -> BaseModelOutput:
        """Run them on their inputs."""
        return self.model.encode(input_ids=input_ids, attention_mask=attention_mask)

    __call__ = forward


@dataclass
class ArchtoolSeq2SeqOutput(ArchtoolOutput):
    """What the heads give, and the encoder's output."""

    encoder_last_hidden_state: Tensor | None = None


class ArchtoolForSeq2SeqLM(GenerationMixin, ArchtoolModel):  # type: ignore[misc]
    """An encoder-decoder with `generate`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        spec = config.archtool["graph"]
        self.memory, self.read = spec["memory"], {name: i for i, name in enumerate(spec["read"])}
        named: Any = self._modules.get("encoder")
        if named is not None:  # `generate` asks this of a module of that name
            named.main_input_name = self.main_input_name

    def get_encoder(self, modality: str | None = None) -> Encoder:
        """What `generate` runs once."""
        return Encoder(self)

    def encode(self, **given: Any) -> BaseModelOutput:
        """The encoder's output."""
        whole, inputs = self._network.graph, given_inputs(self._network.graph.inputs, given)
        blocks = [block for block in whole.blocks if not whole.steps(block.name)]
        graph = Graph(blocks, whole.inputs, whole.sites, (self.memory,))
        left = self._network.walk(SteppingContext(graph, inputs, None, {}, {}))
        return BaseModelOutput(last_hidden_state=left[self.memory])

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> ArchtoolSeq2SeqOutput | tuple[Any, ...]:
        """Run the model; with `encoder_outputs` only its decoder."""
        inputs = given_inputs(self._network.graph.inputs, {
            **others, "input_ids": input_ids, "attention_mask": attention_mask,
            "decoder_input_ids": decoder_input_ids, "decoder_attention_mask": decoder_attention_mask,
        })  # fmt: skip
        index = self._network.cache_index
        if past_key_values is None and use_cache and index:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        ctx = SteppingContext(self._network.graph, inputs, past_key_values if index else None, index, self.read)
        if encoder_outputs is not None:
            ctx.remember(self.memory, encoder_outputs[0])
        left = self._network.walk(ctx)
        out = ArchtoolSeq2SeqOutput(
            **self._network.named(left), past_key_values=past_key_values, encoder_last_hidden_state=left[self.memory]
        )
        return out.to_tuple() if return_dict is False else out
