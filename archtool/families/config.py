"""Reading a configuration without guessing: every key is consumed, known to be harmless, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from archtool.errors import InputError

HARMLESS = frozenset((
    "_name_or_path", "architectures", "auto_map", "bos_token_id", "chunk_size_feed_forward",
    "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype",
    "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty",
    "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "gradient_checkpointing", "id2label",
    "initializer_range", "label2id", "length_penalty", "max_length", "min_length", "model_type",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions",
    "output_hidden_states", "output_scores", "pad_token_id", "prefix", "problem_type",
    "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id",
    "suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss", "tokenizer_class", "top_k",
    "top_p", "torch_dtype", "torchscript", "transformers_version", "typical_p", "use_bfloat16", "use_cache",
    "bad_words_ids", "begin_suppress_tokens", "num_labels", "initializer_factor", "unsloth_version",
    "unsloth_fixed", "quantization_config_source",
))  # fmt: skip

INERT: Mapping[str, Any] = {
    "is_encoder_decoder": False,
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_encoder_decoder": False,
    "pruned_heads": {},
}


TYPES: Mapping[str, tuple[type, ...]] = {
    "architectures": (list,), "layer_types": (list,), "rope_parameters": (dict,), "rope_scaling": (dict,),
    "head_dim": (int,), "sliding_window": (int,), "id2label": (dict,), "model_args": (dict,),
    "pretrained_cfg": (dict,), "layer_norm_epsilon": (int, float), "query_pre_attn_scalar": (int, float),
    "original_max_position_embeddings": (int,), "image_size": (int, list), "patch_size": (int, list),
}  # fmt: skip
"""Types of keys whose default does not tell."""


def _expected(default: Any) -> tuple[type, ...]:
    """The types that stand for a default of this one's type; empty: any."""
    if isinstance(default, bool):
        return (bool,)
    if isinstance(default, (int, float)):
        return (int, float)
    return (str,) if isinstance(default, str) and default else ()


def _typed(key: str, value: Any, types: tuple[type, ...]) -> Any:
    """The value, if it is of one of the types (a truth value is no number)."""
    if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
        wanted = " or ".join(WORDS[t] for t in types if not (t is int and float in types))
        raise InputError(f"config.json: {key} is {value!r}, not {wanted}", f"Correct {key}.")
    return value


WORDS: Mapping[type, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "a list", dict: "an object"
}  # fmt: skip


class Config:
    """A Hugging Face ``config.json`` whose keys are taken one by one.

    Args:
        values: the parsed file.
        family: for messages.
    """

    def __init__(self, values: Mapping[str, Any], family: str) -> None:
        self.values, self.family = values, family
        self._taken: set[str] = set()

    def take(self, key: str, default: Any = ...) -> Any:
        """The value of ``key``, of its default's type; without a default a missing key is an `InputError`."""
        self._taken.add(key)
        if key in self.values and self.values[key] is not None:
            return _typed(key, self.values[key], TYPES.get(key) or _expected(default))
        if default is ...:
            raise InputError(
                f"config.json of a {self.family} model has no {key!r}", "Add the key; its value is needed."
            )
        return default

    def number(self, key: str, default: Any = ...) -> int:
        """A positive whole number."""
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"config.json: {key} is {value!r}, not a positive whole number", f"Correct {key}.")
        return value

    def ignore(self, keys: Iterable[str]) -> None:
        """Keys that do not change what the network computes in evaluation (dropout rates)."""
        self._taken.update(keys)

    def expect(self, key: str, allowed: tuple[Any, ...], default: Any) -> Any:
        """A value among ``allowed``; anything else is an unsupported feature, by name."""
        value = self.take(key, default)
        if value not in allowed:
            raise InputError(
                f"config.json: {key}={value!r} is not supported for {self.family}",
                f"Supported: {', '.join(map(repr, allowed))}.",
            )
        return value

    def finish(self) -> None:
        """Refuse keys that nobody took."""
        for key, inert in INERT.items():
            if key not in self._taken:
                self.expect(key, (inert,), inert)
        unknown = sorted(set(self.values) - self._taken - HARMLESS)
        if unknown:
            raise InputError(
                f"config.json of a {self.family} model has unknown keys: {', '.join(unknown)}",
                "An unknown feature could change the function. Remove the keys if they are inert notes.",
            )
