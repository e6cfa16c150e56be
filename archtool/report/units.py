"""Numbers as people read them: three significant digits, sensible units, MB = 10^6 bytes.

Each formatter takes a finite number and returns plain text; the exact number travels beside it in the page.
"""

import math

_DECIMAL = (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15))
_COUNT = (("", 1.0), (" k", 1e3), (" M", 1e6), (" B", 1e9), (" T", 1e12))
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_TIME = ((" µs", 1e-3), (" ms", 1.0), (" s", 1e3))


def significant(value: float, digits: int = 3) -> str:
    """``digits`` significant digits without an exponent for ordinary sizes: 0.8203, 12.9, 1,266."""
    if not math.isfinite(value):
        return {"inf": "∞", "-inf": "−∞"}.get(str(value), "not a number")
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    if exponent < -4 or exponent >= 9:
        return _minus(_power_of_ten(value, digits))
    places = max(0, digits - 1 - exponent)
    text = f"{value:,.{places}f}"
    return _minus(text)


def _power_of_ten(value: float, digits: int) -> str:
    number, _, power = f"{value:.{digits - 1}e}".partition("e")
    return f"{number} × 10{superscript(int(power))}"


def superscript(value: int) -> str:
    """An integer as an exponent: ⁻⁵."""
    return str(value).translate(_SUPERSCRIPT)


def _minus(text: str) -> str:
    return text.replace("-", "−") if text.startswith("-") else text


def _scaled(value: float, steps: tuple[tuple[str, float], ...]) -> tuple[str, str]:
    """The number in the largest unit that leaves it at least 1, judged after rounding."""
    chosen = steps[0]
    for step in steps:
        if abs(value) >= step[1] * 0.9995:
            chosen = step
    return significant(value / chosen[1]), chosen[0]


def count(value: float) -> str:
    """A count: 512, 22.7 M, 1.10 B."""
    if not math.isfinite(value) or abs(value) < 10_000:
        return f"{value:,.0f}" if math.isfinite(value) and value == int(value) else significant(value)
    number, unit = _scaled(value, _COUNT)
    return number + unit


def size(value: float) -> str:
    """Bytes: 384 B, 45.4 MB, 2.20 GB."""
    if not math.isfinite(value) or abs(value) < 1000:
        return f"{significant(value) if not math.isfinite(value) else f'{value:,.0f}'} B"
    number, unit = _scaled(value, _DECIMAL)
    return f"{number} {unit}B"


def macs(value: float) -> str:
    """Multiply-adds: 1.42 GMAC."""
    if not math.isfinite(value):
        return significant(value)
    number, unit = _scaled(value, _DECIMAL)
    return f"{number} {unit}MAC"


def milliseconds(value: float) -> str:
    """A latency given in milliseconds: 842 µs, 3.21 ms, 1.20 s."""
    number, unit = _scaled(value, _TIME) if math.isfinite(value) else (significant(value), " ms")
    return number + unit


def seconds(value: float) -> str:
    """A duration: 0.42 s, 38 s, 4 min 12 s, 2 h 05 min."""
    if not math.isfinite(value) or value < 60:
        return f"{significant(value, 2)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def ratio(value: float) -> str:
    """A ratio of after to before: 0.28×, 1.71×."""
    return f"{significant(value, 2 if value < 1 else 3)}×"


def percent(share: float) -> str:
    """A share in per cent: 49 %, 7.5 %, 0.31 %."""
    return f"{significant(100 * share, 2)} %"


def exact(value: float) -> str:
    """A width or bit count without rounding where it is whole: 1,536; 4; 4.25."""
    if math.isfinite(value) and value == int(value):
        return f"{int(value):,}"
    return significant(value)


def metric(value: float, unit: str = "") -> str:
    """A quality value to four digits, with its unit."""
    text = significant(value, 4)
    return f"{text} {unit}" if unit and unit != "%" else text + unit


def bits(value: float) -> str:
    """Bits per weight: 4 bits, 8.25 bits."""
    return f"{exact(value)} bits"


_KINDS = {
    "count": count,
    "bytes": size,
    "bits": bits,
    "macs": macs,
    "ms": milliseconds,
    "s": seconds,
    "ratio": ratio,
    "error": lambda value: significant(value, 2),
}


def show(value: float, kind: str) -> str:
    """Format by kind: count, bytes, macs, ms, s, ratio, bits, error; or the unit of a plain number."""
    formatter = _KINDS.get(kind)
    return formatter(value) if formatter else metric(value, kind)
