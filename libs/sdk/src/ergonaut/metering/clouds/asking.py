"""Asks metadata services, all at once and for a second at most."""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ADDRESS = "169.254.169.254"
"""The link-local address (RFC 3927) at which every cloud answers; no name is looked up, since a name can lead elsewhere."""
# A service answers within milliseconds; a machine without one must not wait noticeably for nothing.
ANSWER_SECONDS_MAX = 1.0
# The longest document, that of Azure, has a few kilobytes.
_BYTES_MAX = 65536


@dataclass(frozen=True, slots=True)
class Found:
    """Where a cloud says that the machine stands, in the cloud's own words."""

    region: str
    instance_type: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


class MetadataService:
    """One asking: how often however many clouds ask, the whole of it ends `seconds_max` after it was made."""

    def __init__(self, host: str = ADDRESS, port: int = 80, seconds_max: float = ANSWER_SECONDS_MAX) -> None:
        self._host = host
        self._port = port
        self._ends_at = time.monotonic() + seconds_max

    @property
    def seconds_left(self) -> float:
        """Until the asking ends."""
        return max(0.0, self._ends_at - time.monotonic())

    def ask(self, path: str, headers: Mapping[str, str], method: str = "GET") -> Answer:
        """One request, without proxy and without following anywhere. Raises OSError where nobody answers as HTTP in time."""
        import http.client

        if self.seconds_left <= 0:
            raise TimeoutError(f"no time is left to ask {self._host}{path}")
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self.seconds_left)
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read(_BYTES_MAX).decode(errors="replace"))
        except http.client.HTTPException as error:
            raise OSError(f"{self._host}{path} answers in no way that is HTTP: {error!r}") from error
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Pue:
    """A cloud's power usage effectiveness as it publishes it: the mean of its data centres over a year."""

    value: float
    year: int
    source: str


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud: how its machines are known from within, how it is asked, and in which grid zones its regions lie.

    `pue` holds for those regions; None where the cloud publishes none.
    """

    name: str
    vendor: str
    ask: Callable[[MetadataService], Found | None]
    zones: Mapping[str, str]
    source: str
    pue: Pue | None = None


def ask_all(clouds: Sequence[Cloud], service: MetadataService) -> tuple[Cloud, Found] | None:
    """The first cloud that answers in its own format; None where none does in time."""
    answers: queue.SimpleQueue[tuple[Cloud, Found | None]] = queue.SimpleQueue()

    def ask(cloud: Cloud) -> None:
        try:
            answers.put((cloud, cloud.ask(service)))
        except Exception:
            # Whatever answers there is not this cloud, and who waits for the answer must hear of it.
            answers.put((cloud, None))

    for cloud in clouds:
        # A thread that hangs in a connection is left behind, which must not keep the program from ending.
        threading.Thread(target=ask, args=(cloud,), name=f"ergonaut-metadata-{cloud.name}", daemon=True).start()
    for _ in clouds:
        try:
            cloud, found = answers.get(timeout=service.seconds_left)
        except queue.Empty:
            return None
        if found is not None:
            return cloud, found
    return None
