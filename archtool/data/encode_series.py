"""A multivariate time series to forecasting windows, in the convention of the ETT benchmarks.

Legend: `T` rows in time, `V` variables. Values are standardised with the train rows' mean and population
standard deviation; val and test windows take their past from across the border, their future from
inside it (Zhou et al. 2021, "Informer").
"""

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from archtool.data.columns import Windows
from archtool.data.dataset import Data, Padding
from archtool.data.raw import Table, bad_value, numbers
from archtool.data.spec import SERIES_HORIZON, SERIES_LENGTH, SPLITS, DataSpec, SeriesPreprocess
from archtool.data.split import bounds
from archtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ETT_HOURLY = (8640, 11520, 14400)
ETT_QUARTER_HOURLY = (34560, 46080, 57600)


def encode_series(table: Table, spec: DataSpec, split: str) -> Data:
    """Windows ``past_values`` (length, V) with ``future`` (horizon, V), float32.

    Columns are all but the date, or those that ``spec.columns`` names as roles ``value``, ``value1``, ...

    Raises:
        InputError: non-numeric values, or too few rows for one window.
    """
    import numpy as np

    stated = spec.preprocess if isinstance(spec.preprocess, SeriesPreprocess) else SeriesPreprocess()
    _check(stated)
    length, horizon = window(stated)
    names = _variables(table, spec)
    series_TV = np.stack([numbers(table, name, {name: name}) for name in names], axis=1)
    borders = stated.borders or default_borders(table, spec)
    if list(borders) != sorted(borders) or len(borders) != 3 or borders[-1] > len(series_TV):
        hint = f"three ascending row numbers up to {len(series_TV)}"
        raise InputError(f"{table.origin}: borders {list(borders)}", hint)
    if stated.standardise:
        series_TV = _standardise(table, series_TV, borders[0], names)
    starts = window_starts(len(series_TV), split, borders, stated)
    if not len(starts):
        need = length + horizon
        what = f"{table.origin}: no rows (no window of {need} rows in {split or 'the series'})"
        raise InputError(what, "shorten length or horizon, or move the borders")
    values = series_TV.astype(np.float32)
    past, future = Windows(values, starts, length), Windows(values, starts + length, horizon)
    resolved = replace(spec, preprocess=replace(stated, length=length, horizon=horizon, borders=borders))
    rows, inputs = np.arange(len(starts)), {"past_values": past}
    if stated.time_features:
        inputs["past_time_features"] = Windows(time_features(table, spec), starts, length)
    return Data(resolved, "forecast", inputs, {"future": future}, rows, Padding({}))


def time_features(table: Table, spec: DataSpec) -> "NDArray[Any]":
    """Hour, weekday, day of the month and of the year of every row (T, 4), each from -0.5 to 0.5.

    Raises:
        InputError: no date column, or a value that is no ISO date, with its line.
    """
    from datetime import datetime

    import numpy as np

    found = []
    for row, value in enumerate(table.column("date", dict(spec.columns))):
        try:
            date = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        except ValueError:
            raise bad_value(table, row, f"date {value!r} is not an ISO date") from None
        hour = date.hour + date.minute / 60
        found.append((hour / 23, date.weekday() / 6, (date.day - 1) / 30, (date.timetuple().tm_yday - 1) / 365))
    return np.asarray(found, dtype=np.float32) - np.float32(0.5)


def window(stated: SeriesPreprocess) -> tuple[int, int]:
    """Rows of the past and of the future."""
    return stated.length or SERIES_LENGTH, stated.horizon or SERIES_HORIZON


def window_starts(rows: int, split: str, borders: tuple[int, ...], stated: SeriesPreprocess) -> "NDArray[Any]":
    """First rows of the windows whose future lies in the split (everywhere, where no split is named)."""
    import numpy as np

    begin, end = 0, rows
    length, horizon = window(stated)
    if split:
        place = SPLITS.index(split)
        begin = max(borders[place - 1] - length, 0) if place else 0
        end = borders[place]
    starts = np.arange(begin, end - length - horizon + 1, stated.stride)
    return starts[: len(starts) - len(starts) % stated.drop_last] if stated.drop_last else starts


def default_borders(table: Table, spec: DataSpec) -> tuple[int, int, int]:
    """The customary borders of files named ETTh or ETTm, else those of the spec's fractions."""
    found = re.match(r"ETT([hm])\d", table.origin.name)
    customary = {"h": ETT_HOURLY, "m": ETT_QUARTER_HOURLY}[found[1]] if found else None
    if customary and customary[-1] <= len(table):
        return customary
    train, val, test = (bounds(len(table), split, spec.fractions)[1] for split in SPLITS)
    return train, val, test


def _variables(table: Table, spec: DataSpec) -> tuple[str, ...]:
    mapping = dict(spec.columns)
    chosen = tuple(table.find(role, mapping) or "" for role in mapping if role.startswith("value"))
    date = table.find("date", mapping)
    names = chosen or tuple(name for name in table.columns if name != date)
    if not names:
        raise InputError(f"{table.origin}: no columns beside {date}", "a series needs at least one variable")
    return names


def _standardise(table: Table, series_TV: "NDArray[Any]", train: int, names: tuple[str, ...]) -> "NDArray[Any]":
    mean_V, std_V = series_TV[:train].mean(axis=0), series_TV[:train].std(axis=0)
    constant = [name for name, std in zip(names, std_V, strict=True) if not std > 0]
    if constant:
        what = f"{table.origin}: constant over the {train} train rows: {', '.join(constant)}"
        raise InputError(what, "leave these columns out (--columns value1=A,value2=B), or standardise: false")
    return (series_TV - mean_V) / std_V  # type: ignore[no-any-return]


def _check(stated: SeriesPreprocess) -> None:
    for name in ("length", "horizon", "stride", "drop_last"):
        value = getattr(stated, name)
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}", "give at least 1")
