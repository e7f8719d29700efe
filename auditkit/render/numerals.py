"""Numbers as people read them: three significant digits, a true minus, an em dash for what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from auditkit.core.evidence import Interval, Measurement, Scalar
from auditkit.core.rounding import SAME, digits_beside, exactly, keeps_side
from auditkit.render.text import clean

MISSING = "—"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PLAIN = str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789")


def number(value: float | None, beside: Iterable[float] = ()) -> str:
    """``value`` with three significant digits or decimals; never ``nan`` and never rounded onto 0 or 1.

    Beside the limits that a rule has for it, it has as many digits as keep it on its side of each.

    >>> number(0.71234), number(-2), number(12345.6), number(0.0000213), number(None)
    ('0.712', '−2', '12,346', '2.13 × 10⁻⁵', '—')
    >>> number(0.99987), number(1.0), number(0.5)
    ('0.9999', '1', '0.500')
    >>> number(0.0463), number(0.00231), number(0.79996, [0.8])
    ('0.046', '0.0023', '0.79996')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text, limits = _three_digits(value), tuple(beside)
    if not limits or keeps_side(float(in_ascii(text).replace(",", "")), value, limits):
        return text
    return setting(float(f"{value:.{digits_beside(value, limits, 3)}g}"))


def in_ascii(text: str) -> str:
    """A number as :func:`number` writes it, in characters that every terminal has.

    >>> in_ascii(number(-2.13e-5)), in_ascii(number(0.5))
    ('-2.13e-5', '0.500')
    """
    return text.replace(" × 10", "e").translate(_PLAIN)


def _three_digits(value: float) -> str:
    size = abs(value)
    sign = "−" if value < 0 else ""
    if size == int(size) and size < 1e15:
        return f"{sign}{int(size):,}"
    if size >= 99.95:
        return f"{sign}{size:,.0f}" if size < 1e9 else sign + _scientific(size)
    if size < 0.001:
        return sign + _scientific(size)
    # Three decimals for what is mostly a rate, so that columns line up; two significant digits below 0.01.
    power = math.floor(math.log10(size))
    digits = max(0, 2 - power) if power >= 0 else 3 if round(size, 4) >= 0.01 else 1 - power
    text = f"{size:.{digits}f}"
    if len(text) > 4 and power >= 0 and digits and float(text) >= 10.0 ** (power + 1):
        text = f"{size:.{digits - 1}f}"  # 9.996 is 10.0, not 10.00
    while float(text) in (0.0, 1.0) and digits < 12:
        digits += 1
        text = f"{size:.{digits}f}"
    return sign + text


def _scientific(size: float) -> str:
    mantissa, exponent = f"{size:.2e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def count(n: int | None) -> str:
    """A number of rows, with thousands separated.

    >>> count(12034), count(None)
    ('12,034', '—')
    """
    return MISSING if n is None else f"{n:,}".replace("-", "−")


def rows_told(n: int) -> str:
    """A number of rows in words.

    >>> rows_told(1), rows_told(16281)
    ('1 row', '16,281 rows')
    """
    return "1 row" if n == 1 else f"{count(n)} rows"


def span(interval: Interval | None, beside: Iterable[float] = ()) -> str:
    """``0.66 to 0.75``, or an em dash when there is no interval; its ends beside limits as :func:`number` has them."""
    return MISSING if interval is None else " to ".join(ends(interval.low, interval.high, beside))


def ends(low: float, high: float, beside: Iterable[float] = ()) -> tuple[str, str]:
    """Both ends of an interval; what is only rounding noise beside 0 is 0."""
    limits = tuple(beside)
    first, second = (number(0.0 if abs(end) < SAME else end, limits) for end in (low, high))
    return first, second


def with_unit(value: float | None, unit: str) -> str:
    """The number followed by its unit, when it has both."""
    text = number(value)
    return f"{text} {clean(unit, limit=24)}" if unit and value is not None else text


def sentence(measurement: Measurement) -> str:
    """``0.710 (0.660 to 0.750), n 412``; an em dash when the value is missing.

    >>> sentence(Measurement(name="a.b", value=0.5, n=8, interval=Interval(low=0.2, high=0.8, level=0.95, method="x")))
    '0.500 (0.200 to 0.800), n 8'
    """
    text = with_unit(measurement.value, measurement.unit)
    if measurement.value is not None and measurement.interval is not None:
        text += f" ({span(measurement.interval)})"
    if measurement.n is None:
        return text
    return f"{text}, n {count(measurement.n)}" + ("" if measurement.n_of == "rows" else f" {measurement.n_of}")


def scalar(value: object) -> str:
    """A table cell or parameter: numbers formatted, ``None`` as an em dash, lists joined by commas."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(key)} {scalar(item)}" for key, item in sorted(value.items(), key=lambda p: str(p[0])))
    if isinstance(value, list | tuple):
        return ", ".join(scalar(item) for item in value)
    return clean(value)


def parameters(params: Mapping[str, Scalar] | Mapping[str, object]) -> str:
    """``attack pgd, eps 0.03``: parameters in the order of their names."""
    return ", ".join(f"{clean(name)} {setting(value)}" for name, value in sorted(params.items()))


def setting(value: object) -> str:
    """A parameter as it was set: no digits added or dropped.

    >>> setting(0.1), setting(1e-05), setting([0.5, 2])
    ('0.1', '1e-05', '0.5, 2')
    """
    if isinstance(value, float):
        return exactly(value).replace("-", "−") if abs(value) >= 1e-4 else exactly(value)
    if isinstance(value, list | tuple):
        return ", ".join(setting(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(
            f"{clean(key)} {setting(item)}" for key, item in sorted(value.items(), key=lambda p: str(p[0]))
        )
    return scalar(value)


def group_label(group: Mapping[str, str]) -> str:
    """``F`` for one column, ``F, Black`` for several; ``all rows`` for none."""
    return ", ".join(clean(value) for _, value in sorted(group.items())) if group else "all rows"
