"""A forward pass of each family in archtool's module against transformers' own, in processor time, interleaved.

Both run with the same random weights, inputs and attention backend (SDPA where the class has it), on one thread of
this process, pass by pass; which goes first alternates. What is clocked is the thread's processor time, which does not
count the time that other processes take. The process keeps the memory that it frees: pages that are cleared anew cost
more than any difference of the two, at whichever operation touches them first. Denormal numbers, which are slow, count
as zero. The value is the median over the rounds of ours ÷ theirs, the spread the width of that median's 95 % interval
(order statistics).
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import ROOT, arguments, emit

sys.path.insert(0, str(ROOT))
ROUNDS, WARM = 60, 4


def main() -> None:
    """Every family that `cases` knows."""
    import torch

    from archtool.model.ahead import keep_freed_memory

    parser = arguments(__doc__)
    parser.add_argument("--only", metavar="NAME", help="one family")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    for name, config, head, inputs in cases():
        if asked.only in (None, name):
            ours, theirs, gap = timed(config, head, inputs, max(9, asked.rounds // 3) if asked.quick else asked.rounds)
            report(name, ours, theirs, gap)


def cases() -> Iterator[tuple[str, Any, str, dict[str, Any]]]:
    """(family, configuration, class name, inputs) at the sizes of small published models."""
    import torch
    import transformers as t

    image, ids = torch.randn(2, 3, 224, 224), torch.randint(2, 1000, (4, 128))
    text = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    both = {**text, "decoder_input_ids": ids[:, :32]}
    series = {"past_values": torch.randn(16, 336, 7)}
    yield (
        "vit",
        t.ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768),
        "ViTForImageClassification",
        {"pixel_values": image},
    )
    yield (
        "bert",
        t.BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536),
        "BertModel",
        text,
    )
    yield (
        "swin",
        t.SwinConfig(embed_dim=48, depths=[2, 2, 2, 2], num_heads=[3, 6, 12, 24]),
        "SwinForImageClassification",
        {"pixel_values": image},
    )
    yield "segformer", t.SegformerConfig(), "SegformerForImageClassification", {"pixel_values": image}
    yield "pvt_v2", t.PvtV2Config(), "PvtV2ForImageClassification", {"pixel_values": image}
    yield "poolformer", t.PoolFormerConfig(), "PoolFormerForImageClassification", {"pixel_values": image}
    yield (
        "convnext",
        t.ConvNextConfig(hidden_sizes=[48, 96, 192, 384]),
        "ConvNextForImageClassification",
        {"pixel_values": image},
    )
    yield (
        "mobilevit",
        t.MobileViTConfig(image_size=256, num_labels=1000),
        "MobileViTForImageClassification",
        {"pixel_values": torch.randn(2, 3, 256, 256)},
    )
    yield (
        "mobilevitv2",
        t.MobileViTV2Config(image_size=256, num_labels=1000),
        "MobileViTV2ForImageClassification",
        {"pixel_values": torch.randn(2, 3, 256, 256)},
    )
    yield (
        "t5",
        t.T5Config(vocab_size=1000, d_model=256, d_ff=1024, d_kv=64, num_layers=4, num_heads=4),
        "T5ForConditionalGeneration",
        both,
    )
    yield (
        "marian",
        t.MarianConfig(
            vocab_size=1000,
            d_model=256,
            encoder_layers=4,
            decoder_layers=4,
            encoder_ffn_dim=1024,
            decoder_ffn_dim=1024,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        ),
        "MarianMTModel",
        both,
    )
    yield (
        "patchtst",
        t.PatchTSTConfig(
            num_input_channels=7,
            context_length=336,
            patch_length=16,
            patch_stride=8,
            d_model=128,
            ffn_dim=256,
            num_attention_heads=16,
            prediction_length=96,
        ),
        "PatchTSTForPrediction",
        series,
    )
    yield (
        "mamba",
        t.MambaConfig(vocab_size=1000, hidden_size=256, num_hidden_layers=4),
        "MambaForCausalLM",
        {"input_ids": ids},
    )


def timed(config: Any, head: str, inputs: dict[str, Any], rounds: int) -> tuple[list[float], list[float], float]:
    """Processor seconds of each pass of both modules, and the largest difference of their first common output."""
    import torch
    import transformers

    from archtool.model.load import load

    torch.manual_seed(0)
    reference = getattr(transformers, head)(config).eval()
    for weight in (p for p in reference.parameters() if p.dim() > 1 and "pixel_values" in inputs):
        torch.nn.init.kaiming_normal_(weight)  # deep models else end in denormal numbers, which are slow
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        ours = load(Path(folder)).module()
    extra = {"use_cache": False} if hasattr(reference.config, "use_cache") else {}
    with torch.inference_mode():
        mine, given = ours(**inputs), reference(**inputs, **extra)
        name, expected = next((n, given[k]) for n, k in NAMES.items() if n in mine and k in given)
        gap = float((mine[name] - expected).abs().max() / expected.abs().max().clamp_min(1.0))
        calls = (lambda: ours(**inputs)), (lambda: reference(**inputs, **extra))
        pairs = [(clocked(calls[n % 2]), clocked(calls[1 - n % 2]))[:: 1 - 2 * (n % 2)] for n in range(WARM + rounds)]
    return [pair[0] for pair in pairs[WARM:]], [pair[1] for pair in pairs[WARM:]], gap


NAMES = {"logits": "logits", "forecast": "prediction_outputs", "hidden": "last_hidden_state"}
"""Our output → transformers'."""


def clocked(call: Callable[[], Any]) -> float:
    """Processor seconds of one call, on this thread."""
    begun = time.thread_time()
    call()
    return time.thread_time() - begun


def report(name: str, ours: list[float], theirs: list[float], gap: float) -> None:
    """Print the ratio; a forward pass that computes something else is a failed claim."""
    ratios = sorted(mine / given for mine, given in zip(ours, theirs, strict=True))
    ratio, reach = statistics.median(ratios), math.ceil(0.98 * math.sqrt(len(ratios)))
    middle = (len(ratios) - 1) / 2
    low, high = (ratios[min(len(ratios) - 1, max(0, round(middle + n)))] for n in (-reach, reach))
    mine, given = (1000 * statistics.median(each) for each in (ours, theirs))
    note = f"{mine:.2f} ms against {given:.2f} ms, outputs differ by {gap:.1e}"
    emit(f"field.speed.{name}", ratio if gap <= 1e-3 else float("inf"), spread=high - low, note=note)


if __name__ == "__main__":
    main()
