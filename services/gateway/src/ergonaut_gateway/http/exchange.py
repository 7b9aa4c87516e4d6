"""One HTTP request and the answer to it, as handlers see them. Connections make exchanges, the router hands them to handlers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

JSON = "application/json"
OCTETS = "application/octet-stream"

Headers = Sequence[tuple[str, str]]
"""Headers of an answer beside its type and length, which are written for it."""


class PeerGone(Exception):
    """The caller is not there any more; whatever is still written goes nowhere."""


class Memo:
    """What a handler notes of a head, for requests that come with the same one."""

    __slots__ = ("noted",)

    def __init__(self) -> None:
        self.noted: object = None


@dataclass(slots=True)
class Request:
    """What a caller sent, body included."""

    method: str
    path: str
    """As it was sent, percent signs and all, without the query."""
    query: str
    headers: Mapping[str, str]
    """By lower-case name; a header that came twice has its values joined by a comma."""
    body: bytes | memoryview
    """Whole and unpacked. Binary tensors may point into it, so it is never changed."""
    memo: Memo | None = None
    """Of its head, where that came on this connection before."""


class Stream(Protocol):
    """An answer that is written piece by piece."""

    async def write(self, piece: bytes) -> None:
        """Write a piece and wait while the caller reads too slowly. Raises PeerGone."""
        ...

    def close(self) -> None:
        """The answer is whole. Closing again, or after the caller has gone, changes nothing."""
        ...

    def abort(self) -> None:
        """The answer cannot be made whole: cut the connection, so that nobody takes a part for the whole."""
        ...


class Exchange(ABC):
    """One request, to be answered exactly once, by `answer` or by `stream`, on the event loop."""

    __slots__ = ("_gone_callbacks", "_stream", "gone", "over", "path_values", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.path_values: Mapping[str, str] = {}
        """What stood in the places that the route names."""
        self.over = False
        """Whether an answer was given or begun."""
        self.gone = False
        """Whether the caller has gone away."""
        self._gone_callbacks: list[Callable[[], object]] | None = None
        self._stream: Stream | None = None

    def answer(self, status: int, body: bytes, content_type: str = JSON, headers: Headers = ()) -> None:
        """Give the whole answer. Where the caller has gone it is dropped."""
        assert not self.over, "a request is answered once"
        # Where this raises, nothing was sent, and what went wrong can still be told.
        self._send(status, body, content_type, headers)
        self.over = True

    def stream(self, status: int, content_type: str, headers: Headers = ()) -> Stream:
        """Begin an answer that comes piece by piece; it must be closed or aborted."""
        assert not self.over, "a request is answered once"
        self._stream = self._begin(status, content_type, headers)
        self.over = True
        return self._stream

    def cut(self) -> None:
        """Abort a stream that was begun and cannot be made whole; where there is none, or it is closed, change nothing."""
        if self._stream is not None:
            self._stream.abort()

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Have this called when the caller goes away before the answer is whole; at once where that has happened."""
        if self.gone:
            callback()
        elif self._gone_callbacks is None:
            self._gone_callbacks = [callback]
        else:
            self._gone_callbacks.append(callback)

    def lose(self) -> None:
        """Note that the caller has gone. For what carries the exchange only."""
        self.gone = True
        callbacks, self._gone_callbacks = self._gone_callbacks, None
        for callback in callbacks or ():
            callback()

    @abstractmethod
    def _send(self, status: int, body: bytes, content_type: str, headers: Headers) -> None: ...

    @abstractmethod
    def _begin(self, status: int, content_type: str, headers: Headers) -> Stream: ...
