"""What makers state that a CPU takes at full load, per thread, by the name that the CPU calls itself.

The tables beside this file hold one row a product with its source: `tables/cpus.csv`. Virtual machines often see a name that
only tells the family, such as `AMD EPYC`; they get the family's mean, with a wider range.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Estimates of energy by TDP and load were up to 40 % off against external meters over hundreds of runs: arXiv 2509.22092.
MODEL_RANGE_FRACTION = 0.4
# What somebody estimated, or a maker states for a CPU with what is around it, may as well be half as much again.
_ESTIMATE_RANGE_FRACTION = 0.5
# Desktop and notebook CPUs pass their design power for as long as they are cooled: an i9-12900K is stated at 125 W and at 241 W.
_TURBO_RANGE_FRACTION = 0.7
_WITH_TURBO = "Client"


@dataclass(frozen=True, slots=True)
class CpuPower:
    """Watts of design power for each thread of a CPU, how far off that may be for this one, and what it rests on."""

    tdp_watts_per_thread: float
    range_fraction: float
    source: str


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    words: str
    tdp_watts: float
    threads: int
    generation: str
    is_specified: bool
    source: str

    @property
    def watts_per_thread(self) -> float:
        return self.tdp_watts / self.threads


def cpu_power(name: str, family: int = 0, model: int = 0) -> CpuPower | None:
    """The design power of a CPU of this name, with the family and model numbers of an x86 one; None where nobody tells.

    >>> cpu_power("AMD EPYC 7763 64-Core Processor").source
    'TDP 280 W of AMD EPYC 7763 over its 128 threads (https://www.amd.com/en/products/specifications/server-processor.html)'
    >>> cpu_power("Somebody's CPU 9000") is None
    True
    """
    words = normalised(name)
    rows = _rows()
    # A P at the end is the same product for boards with one socket.
    exact = [row for row in rows if words in (row.words, f"{row.words}p")]
    if exact:
        return _of_product(exact[0])
    maker = words.partition(" ")[0]
    generation = _generation_named(words, rows) or _generation_numbered(maker, family, model)
    # An Arm design is sold under its buyers' names, so that the maker's name says nothing there.
    makers = ("",) if maker == "arm" else (maker,)
    specified = [row for row in rows if row.is_specified]
    members = [row for row in specified if row.generation == generation and row.words.startswith(makers)]
    return _of_family(generation, members) if members else _of_line(words, specified)


def normalised(name: str) -> str:
    """A CPU's name without what does not tell products apart.

    >>> normalised("12th Gen Intel(R) Core(TM) i9-12900K"), normalised("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz")
    ('intel core i9-12900k', 'intel xeon e5-2680 v4')
    """
    plain = re.sub(r"\((r|tm)\)|@.*|\b\d+th gen\b|\b\d+-core\b|\bwith radeon.*|\b(cpu|processor)\b", " ", name.lower())
    return " ".join(plain.split())


def _of_product(row: _Row) -> CpuPower:
    more = 0.0 if row.is_specified else _ESTIMATE_RANGE_FRACTION
    more = _TURBO_RANGE_FRACTION if row.generation == _WITH_TURBO else more
    spread = math.hypot(MODEL_RANGE_FRACTION, more)
    label = "TDP" if row.is_specified else "about"
    source = f"{label} {row.tdp_watts:g} W of {row.name} over its {row.threads} threads ({row.source})"
    return CpuPower(row.watts_per_thread, spread, source)


def _of_family(family: str, members: Sequence[_Row]) -> CpuPower:
    """The mean over all threads that the family has, since each is as likely to be a guest's."""
    threads = sum(row.threads for row in members)
    mean = sum(row.tdp_watts for row in members) / threads
    variance = sum(row.threads * (row.watts_per_thread - mean) ** 2 for row in members) / threads
    spread = math.hypot(MODEL_RANGE_FRACTION, math.sqrt(variance) / mean)
    source = (
        f"mean TDP of {mean:.2f} W a thread of {len(members)} products of the family {family} ({members[0].source})"
    )
    return CpuPower(mean, spread, source)


def _of_line(words: str, rows: Sequence[_Row]) -> CpuPower | None:
    """Of all products of a line such as `AMD EPYC`, where the name tells nothing but that."""
    line = " ".join(words.split()[:2])
    members = [row for row in rows if row.words.startswith(f"{line} ")] if " " in line else []
    return _of_family(" ".join(members[0].name.split()[:2]), members) if members else None


def _generation_named(words: str, rows: Iterable[_Row]) -> str:
    # Hypervisors name the generation, as in `EPYC-Milan` and `Xeon Processor (Cascadelake)`.
    said = re.sub(r"[^a-z0-9]", "", words)
    generations = sorted({row.generation for row in rows}, key=len, reverse=True)
    return next((name for name in generations if re.sub(r"[^a-z0-9]", "", name.lower()) in said), "")


def _generation_numbered(maker: str, family: int, model: int) -> str:
    numbered = (maker, str(family), str(model))
    for row in _table("cpu_generations.csv"):
        if (row["maker"].lower(), row["family"], row["model"]) == numbered:
            return row["generation"]
    return ""


def _rows() -> list[_Row]:
    return [
        _Row(
            name=row["name"],
            words=normalised(row["name"]),
            tdp_watts=float(row["tdp_watts"]),
            threads=int(row["threads"]),
            generation=row["generation"],
            is_specified=row["basis"] == "specification",
            source=row["source"],
        )
        for row in _table("cpus.csv")
    ]


def _table(name: str) -> list[dict[str, str]]:
    import csv
    from importlib import resources

    text = (resources.files("ergonaut.metering") / "tables" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
