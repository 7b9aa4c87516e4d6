"""Figures and comparisons as a person says them."""

from datetime import timedelta

_SAME_FRACTION = 0.005
"""Less than half a percent apart would be shown as 0 % and is called the same."""

_TIMES_FROM = 2.0
"""From twice as much on, a factor reads better than a percentage."""


def number(value: float) -> str:
    """Three significant digits, without a trailing zero or an exponent.

    >>> number(8.0), number(0.0012345), number(123456.0)
    ('8', '0.00123', '123,456')
    """
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = f"{value:.3g}"
    return f"{value:.9f}".rstrip("0").rstrip(".") if "e" in digits else digits


def dollars(amount_usd: float) -> str:
    """Money.

    >>> dollars(0.125)
    '$0.125'
    """
    return f"${number(amount_usd)}"


def grams(carbon_grams: float) -> str:
    """Grams of CO2e.

    >>> grams(12.0)
    '12 g CO2e'
    """
    return f"{number(carbon_grams)} g CO2e"


def joules(energy_joules: float) -> str:
    """Energy.

    >>> joules(1500.0)
    '1,500 J'
    """
    return f"{number(energy_joules)} J"


def duration(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> [duration(s) for s in (30, 840, 7_500, 97_200)]
    ['30 s', '14 min', '2 h 5 min', '1 d 3 h']
    """
    if seconds < 1:
        return "under 1 s"
    whole = timedelta(seconds=round(seconds))
    minutes, second = divmod(whole.seconds, 60)
    hour, minute = divmod(minutes, 60)
    parts = [(whole.days, "d"), (hour, "h"), (minute, "min"), (second, "s")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def compared(value: float, base: float, noun: str) -> str:
    """How much more or less a figure is than another; empty where they are the same.

    >>> compared(3.2, 1, "dollars"), compared(0.88, 1, "grams"), compared(1, 1, "grams")
    ('3.2x the dollars', '12 % fewer grams', '')
    """
    if base <= 0:
        return f"{noun} where the choice has none" if value > 0 else ""
    ratio = value / base
    if abs(ratio - 1) < _SAME_FRACTION:
        return ""
    if ratio >= _TIMES_FROM:
        return f"{number(round(ratio, 1))}x the {noun}"
    return f"{abs(ratio - 1):.0%} {'more' if ratio > 1 else 'fewer'} {noun}".replace("%", " %")
