"""Models and their versions: what is recorded of them, and which version a request means. `changes` says what becomes of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum

from ergonaut.errors import NotFound, Refused
from ergonaut.ids import NAME_RULE, is_name

TEXT_CHARACTERS_MAX = 200
"""A digest or the name of a framework is no longer; records must stay small."""

CHAMPION = "champion"
"""The alias that is meant where no version is asked for, if it is set."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or gives; -1 in the shape stands where the caller chooses."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class VersionState(StrEnum):
    """Whether requests may go to a version, and whether its file is still kept."""

    READY = "ready"
    UNLOADED = "unloaded"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Used:
    """What the run that trained a version used. None is "not told", never 0; ranges are plus or minus, in the same unit."""

    energy_joules: float | None = None
    energy_joules_range: float | None = None
    carbon_grams_co2e: float | None = None
    carbon_grams_co2e_range: float | None = None
    cost_usd: float | None = None
    cost_usd_range: float | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from, as its deployer told; what is empty was not told."""

    run_id: str = ""
    used: Used = Used()
    data_digest: str = ""
    framework: str = ""
    deployed_by: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that loads and wants to be a model's next version."""

    digest: str
    size_bytes: int
    file: str
    signature: Signature
    lineage: Lineage = Lineage()
    deployment_id: str = ""
    signature_bundle: str = ""
    signed_by: str = ""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """One version of a model. Its file and what it takes and gives never change; its state does."""

    tenant: str
    name: str
    version: int
    digest: str
    size_bytes: int
    file: str
    signature: Signature
    deployed_at: datetime
    run_id: str = ""
    state: VersionState = VersionState.READY
    is_pinned: bool = False
    """Whether somebody asked for it to be ready, so that a newer version does not unload it."""
    deployment_id: str = ""
    """Under which it holds its file, which others may share; empty where the file is its own."""
    lineage: Lineage = Lineage()
    signature_bundle: str = ""
    """The OpenSSF model signing bundle that came with it, as JSON; empty where it came unsigned."""
    signed_by: str = ""
    """The id of the trusted key that signed it; empty where it is unsigned or nobody knows the key."""
    removed_at: datetime | None = None
    is_file_released: bool = False
    """Whether a removed version's hold on its file was given up."""

    @property
    def served(self) -> bool:
        """Whether requests may go to it."""
        return self.state is VersionState.READY

    @property
    def is_kept(self) -> bool:
        """Whether its file is kept, so that it can be loaded."""
        return self.state is not VersionState.REMOVED


class FactKind(StrEnum):
    """What there is to tell of a model."""

    DEPLOYED = "deployed"
    REMOVED = "removed"
    ALIASED = "aliased"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened to a model and is to be told; version 0 means that an alias names none any more."""

    kind: FactKind
    at: datetime
    version: int
    alias: str = ""
    change: int = 0
    """Which of the model's changes it was, so that two of the same kind differ."""


@dataclass(frozen=True, slots=True)
class Model:
    """The one truth about a model: its versions by number, its aliases, and what nobody has been told of yet."""

    tenant: str
    name: str
    versions: tuple[ModelRecord, ...] = ()
    aliases: dict[str, int] = field(default_factory=dict)
    version_last: int = 0
    changes: int = 0
    untold: tuple[Fact, ...] = ()

    @property
    def kept(self) -> tuple[ModelRecord, ...]:
        """The versions that are not removed, oldest first."""
        return tuple(record for record in self.versions if record.is_kept)

    @property
    def ready(self) -> tuple[ModelRecord, ...]:
        """The versions that requests may go to, oldest first."""
        return tuple(record for record in self.versions if record.served)

    @property
    def is_kept(self) -> bool:
        """Whether there is any version."""
        return bool(self.kept)

    @property
    def default(self) -> ModelRecord | None:
        """The version that serves who asks for none: the champion, else the newest that is ready."""
        if CHAMPION in self.aliases:
            champion = self.numbered(self.aliases[CHAMPION])
            return champion if champion is not None and champion.served else None
        return self.ready[-1] if self.ready else None

    @property
    def foremost(self) -> ModelRecord | None:
        """The version that stands for the model: the one served by default, else the champion, else the newest."""
        champion = self.numbered(self.aliases[CHAMPION]) if CHAMPION in self.aliases else None
        return self.default or champion or (self.kept[-1] if self.kept else None)

    def numbered(self, version: int) -> ModelRecord | None:
        """The kept version of this number."""
        return next((record for record in self.kept if record.version == version), None)

    def aliases_of(self, version: int) -> tuple[str, ...]:
        """The aliases of a version, by name."""
        return tuple(sorted(alias for alias, named in self.aliases.items() if named == version))

    def named(self, version: str) -> ModelRecord:
        """The kept version that a number or an alias names; none named is the foremost. Raises NotFound."""
        found = self._named(version) if version else self.foremost
        if found is not None:
            return found
        if not self.kept:
            raise NotFound(f"no model {self.name} is served")
        raise NotFound(f"version {version} of model {self.name} is not served, {self.in_words}")

    def _named(self, version: str) -> ModelRecord | None:
        number = self.aliases.get(version, int(version) if is_number(version) else 0)
        return self.numbered(number)

    @property
    def in_words(self) -> str:
        """The newest versions that there are and their aliases, for errors."""
        told = [
            f"{record.version} ({', '.join(named)})"
            if (named := self.aliases_of(record.version))
            else f"{record.version}"
            for record in self.kept[-10:]
        ]
        return f"versions {', '.join(told)} are" if len(told) > 1 else f"version {told[0]} is"


@dataclass(frozen=True, slots=True)
class Entry:
    """A model and the revision under which the registry keeps it; a writer must name the revision that it replaces."""

    model: Model
    revision: int


def is_number(version: str) -> bool:
    """Whether a text is a version's number, and no alias.

    >>> is_number("3"), is_number("champion"), is_number("9" * 30)
    (True, False, False)
    """
    return version.isascii() and version.isdigit() and len(version) < 10


def check_name(name: str, *, field: str = "name") -> None:
    """Raise Refused unless the text may name a model."""
    if not is_name(name):
        raise Refused(f"{name!r} cannot be a model's name; use {NAME_RULE}", field=field)


def check_alias(alias: str) -> None:
    """Raise Refused unless the text may be an alias; digits alone would be a version's number."""
    if not is_name(alias) or alias.isdigit():
        raise Refused(f"{alias!r} cannot be an alias; use {NAME_RULE}, and not digits alone", field="alias")


def check_lineage(lineage: Lineage) -> None:
    """Raise Refused for what no run can have used, and for texts that are too long."""
    if lineage.run_id and not is_name(lineage.run_id):
        raise Refused(f"{lineage.run_id!r} cannot be a run's id; use {NAME_RULE}", field="run_id")
    for name in ("data_digest", "framework"):
        if len(getattr(lineage, name)) > TEXT_CHARACTERS_MAX:
            raise Refused(f"is longer than {TEXT_CHARACTERS_MAX} characters", field=name)
    for figure in fields(Used):
        value = getattr(lineage.used, figure.name)
        if value is not None and not 0 <= value < math.inf:
            raise Refused(f"is {value:g}; it must be a number of at least 0, or be left out", field=figure.name)


def ready_count(models: Iterable[Model]) -> int:
    """How many versions are to be held ready."""
    return sum(len(model.ready) for model in models)
