"""Other gateways as one gateway sees them: which versions they hold, whether they may be sent requests, and who is chosen."""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from hashlib import blake2b

import msgspec

from ergonaut.errors import Unavailable
from ergonaut.gateways import PROTOCOL, GatewayAnnounced
from ergonaut_gateway.domain.batching import Cost, Traits
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.pipelines.combining import drawn

FINGERPRINT_BYTES = 8
"""Of 1,000 versions two look alike once in 10^13 times; such a request is refused there and answered here."""

FINGERPRINTS_MAX = 1_000
"""Told at most, 11 kB a second; who holds more says so, and is asked for anything."""

HOP_SECONDS = 0.0003
"""CPU time of the gateway that sends a request on. What runs in less is refused rather than sent, since sending it would take
more from the callers here than it gives to one."""


class Balancing(StrEnum):
    """When requests go to other gateways."""

    SPILL = "spill"
    """Those only for which there is no room here, or whose model could not be loaded here."""
    EVEN = "even"
    """All alike, by weight and by what is at work."""
    OFF = "off"


class Because(StrEnum):
    """Why a request goes to another gateway."""

    BUSY = "busy"
    NOT_LOADED = "not_loaded"
    EVEN = "even"
    """It was another one's turn."""


class Errand(msgspec.Struct, frozen=True):
    """A request as it is sent on: for one version of one model, with what is left of its time."""

    tenant: str
    model: str
    version: int
    request: InferenceRequest
    timeout_seconds: float
    priority: int = 0


class PeerAway(Unavailable):
    """A gateway does not answer, or cannot take what it is sent, by no fault of the request."""


class Standing(StrEnum):
    """Whether a gateway may be sent requests, and if not why."""

    READY = "ready"
    FULL = "full"
    DRAINING = "draining"
    LEFT_ALONE = "left_alone"
    """It failed lately."""
    TAKES_NONE = "takes_none"
    """It told no address, or speaks another protocol."""


def seen_from(told: GatewayAnnounced, host: str) -> GatewayAnnounced:
    """What a gateway told, for who is on this host: the loopback address of another one is none, and leads to somebody else."""
    where = told.address.rpartition(":")[0].strip("[]")
    is_loopback = where in {"localhost", "::1"} or where.startswith("127.")
    return told.model_copy(update={"address": ""}) if is_loopback and told.host != host else told


def standing_of(told: GatewayAnnounced, *, full: bool, left_alone: bool, lately: bool = True) -> Standing:
    """How a gateway stands that has told this last; whether that was lately, or nobody has been heard since."""
    if not told.address or told.protocol != PROTOCOL:
        return Standing.TAKES_NONE
    if told.draining:
        return Standing.DRAINING
    if left_alone:
        return Standing.LEFT_ALONE
    return Standing.FULL if full or (lately and told.at_work >= told.at_work_max) else Standing.READY


def hop_pays(traits: Traits, cost: Cost) -> bool:
    """Whether a request for a model is better sent on than refused: where a run takes longer than a hop, or may take so."""
    return not traits.steady or not cost.runs or cost.seconds(1.0) >= HOP_SECONDS


def fingerprint(tenant: str, model: str, version: int) -> bytes:
    """What stands for a version where all that a gateway holds are told."""
    return blake2b(f"{tenant}/{model}/{version}".encode(), digest_size=FINGERPRINT_BYTES).digest()


def told_models(versions: Iterable[tuple[str, str, int]]) -> tuple[str, bool]:
    """The fingerprints of versions as they are told, and whether these are all.

    >>> told_models([("default", "digits", 1)])
    ('kwDkJavbUf0=', True)
    """
    prints = sorted(fingerprint(*version) for version in versions)
    return base64.b64encode(b"".join(prints[:FINGERPRINTS_MAX])).decode(), len(prints) <= FINGERPRINTS_MAX


class Held:
    """The versions that another gateway holds, as it told."""

    __slots__ = ("_prints",)

    def __init__(self, told: str, *, are_all: bool) -> None:
        self._prints = _read(told) if are_all else None

    def may_hold(self, print_: bytes) -> bool:
        """Whether it holds a version, as far as is known."""
        return self._prints is None or print_ in self._prints


def _read(told: str) -> frozenset[bytes]:
    try:
        content = base64.b64decode(told, validate=True)
    except (binascii.Error, ValueError):
        return frozenset()
    return frozenset(content[at : at + FINGERPRINT_BYTES] for at in range(0, len(content), FINGERPRINT_BYTES))


def chosen(weights: Sequence[float], at_work: Sequence[float], chance: Callable[[], float]) -> int:
    """Which of some gateways gets a request: of two that are drawn by weight, the one with less at work for its weight.

    Two choices are nearly as good as the best of all, and do not send everybody to the same one, whose figures are the same old
    ones for all who look (Mitzenmacher 2001). Where both have as much to do the first stays, so that shares follow the weights.

    >>> chosen([1.0, 1.0], [5, 2], iter([0.1, 0.9]).__next__), chosen([9.0, 1.0], [9, 2], iter([0.95, 0.0]).__next__)
    (1, 0)
    """
    first = drawn(weights, chance())
    if len(weights) == 1:
        return first
    others = [index for index in range(len(weights)) if index != first]
    second = others[drawn([weights[index] for index in others], chance())]
    return second if at_work[second] / weights[second] < at_work[first] / weights[first] else first
