"""iTransformer (Liu et al. 2024, "Inverted Transformers Are Effective for Time Series Forecasting"), after its code.

The whole past of a variate is one token; attention runs across variates, the feed-forward layers within each. Norms
stand behind the sums, and one more before the head. Series are scaled by their own statistics, which the forecast gets
back. The reference can add timestamps as further variates; here the variates are the series alone.
"""

from __future__ import annotations

from archtool.families.base import Draft
from archtool.families.encoder import add_blocks, add_final, plain, self_attention
from archtool.ir.architecture import Architecture, NormSpec
from archtool.operators.forecast import Forecast
from archtool.operators.mlp import Mlp
from archtool.operators.revin import RevIn
from archtool.operators.series_stem import SeriesStem
from archtool.zoo.common import Count

NORM = NormSpec("layer", 1e-5)


def architecture(
    context_length: Count, prediction_length: Count, num_channels: Count, depth: Count, width: Count, hidden: Count,
    heads: Count = 8, use_norm: bool = True,
) -> Architecture:  # fmt: skip
    """The forecaster; ``use_norm`` is the scaling by the series' own statistics."""
    draft = Draft("", ("past_values",))
    draft.facts["series_length"] = context_length
    draft.sizes["s0.width"] = width
    stem = SeriesStem(variates=num_channels, patch=context_length, stride=context_length, form="together")
    scale = [plain("scale", RevIn(variates=num_channels))] if use_norm else []
    draft.block("embed", *scale, plain("variates", stem))
    add_blocks(draft, depth, self_attention(width, heads), (Mlp(act="gelu"), hidden), NORM, post=True)
    add_final(draft, NORM)
    future = plain("future", Forecast(variates=num_channels, pool="first"), horizon=prediction_length)
    restore = [plain("restore", RevIn(variates=num_channels, restore=True))] if use_norm else []
    draft.block("head", future, *restore)
    draft.output("forecast", "head")
    return draft.done()
