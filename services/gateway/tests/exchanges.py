"""An exchange without a connection: what a handler answers is kept for the test to read."""

from collections.abc import Mapping

import orjson

from ergonaut_gateway.http.exchange import Exchange, Headers, PeerGone, Request


class KeptStream:
    """A stream into memory; `cut` where it was aborted, `closed` where it is whole."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closed = False
        self.cut = False
        self.gone = False

    async def write(self, piece: bytes) -> None:
        if self.gone:
            raise PeerGone
        self.pieces.append(piece)

    def close(self) -> None:
        self.closed = not self.cut

    def abort(self) -> None:
        self.cut = not self.closed


class KeptExchange(Exchange):
    """An exchange whose answer is kept."""

    __slots__ = ("body", "content_type", "headers", "status", "stream_kept")

    def __init__(
        self,
        path: str,
        method: str = "GET",
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(Request(method, path, query, headers or {}, body))
        self.status = 0
        self.body = b""
        self.content_type = ""
        self.headers: dict[str, str] = {}
        self.stream_kept = KeptStream()

    @property
    def document(self) -> object:
        """The JSON that was answered."""
        return orjson.loads(self.body)

    def _send(self, status: int, body: bytes, content_type: str, headers: Headers) -> None:
        self.status, self.body, self.content_type, self.headers = status, body, content_type, dict(headers)

    def _begin(self, status: int, content_type: str, headers: Headers) -> KeptStream:
        self.status, self.content_type, self.headers = status, content_type, dict(headers)
        return self.stream_kept
