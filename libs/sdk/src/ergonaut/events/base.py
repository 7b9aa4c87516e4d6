"""What every event has: an id, a time, a tenant, and a subject made from its class. Base of all files in `ergonaut.events`."""

import re
from datetime import UTC, datetime
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ergonaut.ids import NAME_PATTERN, NAME_RULE, is_name, new_id

PUBLIC_TENANT = "public"
"""Facts that belong to nobody, such as list prices, are told under this tenant; everybody may read them."""

EVENT_TYPES: dict[str, type["Event"]] = {}
"""Every event class by its type, `runs.run.started` and so on."""

_TYPE = re.compile(r"[a-z]+\.[a-z]+\.[a-z]+")

Name = Annotated[str, Field(pattern=NAME_PATTERN, description=NAME_RULE)]


class Event(BaseModel):
    """A fact. Subclasses set `TYPE` (`<area>.<noun>.<past-verb>`) and say in `key` what the fact is about."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")

    TYPE: ClassVar[str]

    event_id: str = Field(
        default_factory=lambda: new_id("event"), description="The same fact told twice has the same id."
    )
    tenant: Name = Field(description="Whose fact it is.")
    occurred_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC), description="When it happened, UTC.")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        if not _TYPE.fullmatch(cls.TYPE):
            raise TypeError(f"{cls.__name__}.TYPE is {cls.TYPE!r}; it must be <area>.<noun>.<past-verb>")
        EVENT_TYPES[cls.TYPE] = cls

    @property
    def key(self) -> str:
        """What the fact is about; the last part of the subject."""
        raise TypeError(f"{type(self).__name__} does not say what it is about")

    @property
    def subject(self) -> str:
        """The NATS subject under which this fact is told."""
        return subject_of(self.TYPE, tenant=self.tenant, key=self.key)


def subject_of(event_type: str, *, tenant: str = "*", key: str = "*") -> str:
    """The subject of an event type, for one tenant and key or, by default, a pattern for all.

    >>> subject_of("runs.run.finished", tenant="default")
    'ergonaut.v1.default.runs.run.finished.*'
    """
    for part in (tenant, key):
        if part != "*" and not is_name(part):
            raise ValueError(f"{part!r} cannot be part of a subject; it must be {NAME_RULE}")
    return f"ergonaut.v1.{tenant}.{event_type}.{key}"
