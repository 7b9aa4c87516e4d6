"""How reports write numbers: three digits that count, the unit that fits, a range in the same unit. Nothing else does so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

NOT_MEASURED = "not measured"
NOT_KNOWN = "not known"
NOTHING = "\N{EN DASH}"
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
DIGITS = 3
# What no run uses: a figure beyond is a slip of somebody's pen, and hundreds of digits would fill the page with it.
_READABLE_MIN, _READABLE_MAX = 1e-15, 1e15

_Units = Sequence[tuple[float, str]]
_ENERGY: _Units = ((1.0, "J"), (1e3, "kJ"), (3.6e5, "Wh"), (3.6e6, "kWh"), (3.6e9, "MWh"))
_ENERGY_DIVISORS = {"J": 1.0, "kJ": 1e3, "Wh": 3.6e3, "kWh": 3.6e6, "MWh": 3.6e9}
_CARBON: _Units = ((1.0, "g"), (1e3, "kg"), (1e6, "t"))
_POWER: _Units = ((1.0, "W"), (1e3, "kW"), (1e6, "MW"))


@dataclass(frozen=True, slots=True)
class Figure:
    """A value that may be off by plus or minus a range; no value where nobody measured, no range where nobody knows it."""

    value: float | None
    plus_minus: float | None = None

    @property
    def range_fraction(self) -> float | None:
        """The range as a share of the value."""
        return self.plus_minus / self.value if self.value and self.plus_minus is not None else None


def scaled(of: Figure, factor: float) -> Figure:
    """A figure and its range so many times as large.

    >>> scaled(Figure(0.5, 0.1), 1000)
    Figure(value=500.0, plus_minus=100.0)
    """
    value = None if of.value is None else of.value * factor
    return Figure(value, None if of.plus_minus is None else of.plus_minus * factor)


def significant(value: float, digits: int = DIGITS) -> str:
    """A number with so many digits that count; in powers of ten only where it is too long to be read otherwise.

    >>> [significant(x) for x in (0, 0.00012345, 0.5, 12.345, 1234.5, 1e300)]
    ['0', '0.000123', '0.500', '12.3', '1,234', '1.00e+300']
    """
    if not value:
        return "0"
    if not _READABLE_MIN <= abs(value) <= _READABLE_MAX:
        return f"{value:.{digits - 1}e}"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    # Rounding may carry into one more digit: 9.999 is 10.0, not 10.00.
    rounded = round(value, decimals)
    if rounded and math.floor(math.log10(abs(rounded))) > math.floor(math.log10(abs(value))) and decimals:
        decimals -= 1
    return f"{value:,.{decimals}f}"


def energy(joules: float | None) -> str:
    """Energy in the unit that fits.

    >>> [energy(x) for x in (12.34, 1234, 400_000, 7_200_000, None)]
    ['12.3 J', '1.23 kJ', '111 Wh', '2.00 kWh', 'not measured']
    """
    return figure(Figure(joules), _ENERGY, _ENERGY_DIVISORS)


def energy_figure(of: Figure) -> str:
    """Energy with its range.

    >>> energy_figure(Figure(1234, 370))
    '1.23 ± 0.37 kJ'
    >>> energy_figure(Figure(1e300, 3e299))
    '2.78e+290 ± 8.33e+289 MWh'
    """
    return figure(of, _ENERGY, _ENERGY_DIVISORS)


def kilowatt_hours(joules: float | None) -> str:
    """Energy in kWh, whatever its size.

    >>> kilowatt_hours(1234)
    '0.000343 kWh'
    """
    return NOT_MEASURED if joules is None else f"{significant(joules / 3.6e6)} kWh"


def kilowatt_hours_figure(of: Figure) -> str:
    """kWh with their range.

    >>> kilowatt_hours_figure(Figure(912.7, 109.5))
    '913 ± 110 kWh'
    """
    if of.value is None:
        return NOT_MEASURED
    text = significant(of.value)
    return f"{text} ± {_like(text, of.plus_minus)} kWh" if of.plus_minus else f"{text} kWh"


def carbon(grams: float | None) -> str:
    """CO2e in the unit that fits.

    >>> [carbon(x) for x in (0.0123, 12.3, 1234)]
    ['0.0123 g', '12.3 g', '1.23 kg']
    """
    return figure(Figure(grams), _CARBON)


def carbon_figure(of: Figure) -> str:
    """CO2e with its range.

    >>> carbon_figure(Figure(0.137, 0.041))
    '0.137 ± 0.041 g'
    """
    return figure(of, _CARBON)


def power(watts: float | None) -> str:
    """Power in the unit that fits.

    >>> power(41.23), power(1_320)
    ('41.2 W', '1.32 kW')
    """
    return figure(Figure(watts), _POWER)


def money(usd: float | None) -> str:
    """Dollars, with enough digits for a run that costs a hundredth of a cent.

    >>> [money(x) for x in (0, 0.000123, 0.0215, 1.5, 1234.567, None)]
    ['$0', '$0.000123', '$0.0215', '$1.50', '$1,234.57', 'not known']
    """
    if usd is None:
        return NOT_KNOWN
    return f"${usd:,.2f}" if abs(usd) >= 1 else f"${significant(usd)}"


def money_figure(of: Figure) -> str:
    """Dollars with their range.

    >>> money_figure(Figure(0.000123, 0.000037))
    '$0.000123 ± 0.000037'
    """
    if of.value is None or not of.plus_minus:
        return money(of.value)
    return f"{money(of.value)} ± {_like(money(of.value), of.plus_minus)}"


def intensity(grams_per_kwh: float) -> str:
    """Grid intensity.

    >>> intensity(381.2)
    '381 gCO₂e/kWh'
    """
    return f"{significant(grams_per_kwh)} gCO₂e/kWh"


def plus_minus(fraction: float | None) -> str:
    """A range in per cent.

    >>> plus_minus(0.3), plus_minus(None)
    ('± 30 %', '')
    """
    return "" if fraction is None else f"± {significant(fraction * 100, 2)} %"


def change(fraction: float) -> str:
    """A change in per cent, with its sign.

    >>> change(0.123), change(-0.5) == f"{MINUS}50 %", change(0)
    ('+12 %', True, '0 %')
    """
    if not fraction:
        return "0 %"
    return f"{'+' if fraction > 0 else MINUS}{significant(abs(fraction) * 100, 2)} %"


def times(ratio: float) -> str:
    """How many times as much.

    >>> times(12.34) == f"12.3 {TIMES}"
    True
    """
    return f"{significant(ratio)} {TIMES}"


def duration(seconds: float | None) -> str:
    """A time that passed.

    >>> [duration(x) for x in (0.25, 28.44, 723, 11_100, 200_000)]
    ['0.250 s', '28.4 s', '12 min 3 s', '3 h 5 min', '2 d 7 h']
    """
    if seconds is None:
        return NOT_KNOWN
    if seconds < 60:
        return f"{significant(seconds)} s"
    for unit, small, size, part in (("min", "s", 60, 1), ("h", "min", 3_600, 60)):
        if seconds < (3_600 if unit == "min" else 86_400):
            return f"{int(seconds // size)} {unit} {int(seconds % size // part)} {small}"
    return f"{int(seconds // 86_400)} d {int(seconds % 86_400 // 3_600)} h"


def moment(at: datetime | None) -> str:
    """A time of day, UTC.

    >>> from datetime import UTC
    >>> moment(datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC))
    '2026-03-01 12:30:05 UTC'
    """
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def metric(value: float) -> str:
    """A figure that a program told, of no known unit.

    >>> metric(0.97222222), metric(12.0), metric(3e-05)
    ('0.9722', '12', '0.00003')
    """
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    text = significant(value, 4)
    return text.rstrip("0").rstrip(".") if "." in text else text


def figure(of: Figure, units: _Units, divisors: dict[str, float] | None = None) -> str:
    """A figure in the largest unit that leaves it at least one; its range in the same unit, to the same place."""
    if of.value is None:
        return NOT_MEASURED
    unit = next((name for least, name in reversed(units) if abs(of.value) >= least), units[0][1])
    divisor = (divisors or {name: least for least, name in units})[unit]
    text = significant(of.value / divisor)
    if not of.plus_minus:
        return f"{text} {unit}"
    return f"{text} ± {_like(text, of.plus_minus / divisor)} {unit}"


def _like(text: str, value: float) -> str:
    """A range to as many places as the figure it belongs to, but never rounded to nothing."""
    if "e" in text:
        return significant(value)
    decimals = len(text.partition(".")[2])
    written = f"{value:,.{decimals}f}"
    return written if float(written.replace(",", "")) else significant(value, 1)
