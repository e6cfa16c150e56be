"""Small models on a multivariate series around one operator, as `operators.samples` has them of text and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archtool.ir.architecture import Architecture, Block, Layer
from archtool.ir.operator import Operator
from archtool.operators.samples import Sized, branch, model, pooled_by

ROWS = 24
"""Rows of a series."""


def on_series(
    *blocks: Sequence[Sized], stem: Operator | None = None, head: Operator | None = None, width: int = 16
) -> Architecture:
    """Rows of three variates → patches → blocks of layers → heads; by default six patches of each variate apart.

    ``head`` stands in for the pool before the class head.
    """
    from archtool.operators.mlp import Mlp
    from archtool.operators.series_stem import SeriesStem
    from archtool.operators.variate_head import VariateHead

    op = stem or SeriesStem(variates=3, patch=4, stride=4)
    assert isinstance(op, SeriesStem)
    sized = {"positions": op.patches(ROWS) + len(op.tokens)} if op.positions else {}
    first: Sized = Layer("patches", op, residual=False), sized
    body = blocks or ([branch(Mlp(act="relu"), hidden=8)],)
    arch = model(("past_values",), first, body, {"s0.width": width}, {"series_length": ROWS})
    return pooled_by(arch, head or VariateHead(variates=op.variates, pool="mean")) if op.form == "apart" else arch


def forecaster(scale: Operator | None = None, head: Operator | None = None) -> Architecture:
    """The model on a series with the scaling of ``norm.revin`` around it and a forecast of five rows."""
    from archtool.operators.forecast import Forecast
    from archtool.operators.revin import RevIn

    base = on_series()
    first = scale or RevIn(variates=3)
    assert isinstance(first, RevIn)
    last = Layer("restore", replace(first, restore=True, tie="embed.scale" if first.affine else ""), residual=False)
    future = Layer("future", head or Forecast(variates=3, pool="mean"), residual=False)
    stem = base.block("embed")
    embed = replace(stem, layers=(Layer("scale", first, residual=False), *stem.layers))
    blocks = (embed, *base.blocks[1:-1], Block("head", (future, last)))
    sizes = (*((axis, n) for axis, n in base.sizes if not axis.startswith("head.")), ("head.future.horizon", 5))
    outputs = (("hidden", "final"), ("forecast", "head"))
    return replace(base, blocks=blocks, sizes=sizes, outputs=outputs)


def timed(op: Operator, variates: int, joint: bool, **sizes: int) -> Architecture:
    """A model on a series, a token a row, whose first layer reads ``past_time_features``."""
    from archtool.operators.series_stem import SeriesStem

    stem = SeriesStem(variates=variates, patch=1, stride=1, form="joint" if joint else "apart")
    time: Sized = Layer("time", op, reads=("past_time_features",)), sizes
    arch = on_series([time], stem=stem)
    return replace(arch, inputs=("past_values", "past_time_features"))
