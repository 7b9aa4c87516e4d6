"""A small real server that speaks OpenAI's protocol as its model's name tells it to: well, slowly, or badly."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}


class FakeModels:
    """One upstream; what it was asked is kept."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.behaviour = "well"
        self.poured = 0
        self.caller_went = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            pairs = [line.split(": ", 1) for line in lines[1:] if ": " in line]
            headers = {name.lower(): value for name, value in pairs}
            self.authorizations.append(headers.get("authorization", ""))
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            self.asked.append({"path": lines[0].split(" ")[1], **body})
            await self._behave(body, reader, writer)
        finally:
            writer.close()

    async def _behave(self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.behaviour.isdecimal():
            # A careless server shows the key that it got.
            _whole(writer, int(self.behaviour), {"error": {"message": f"no: {self.authorizations[-1]}"}})
        elif body.get("stream"):
            await self._stream(reader, writer)
        elif "input" in body:
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            numbers: Any = [0.5, 0.25]
            if body.get("encoding_format") == "base64":
                numbers = base64.b64encode(struct.pack("<2f", *numbers)).decode()
            data = [{"object": "embedding", "index": at, "embedding": numbers} for at, _ in enumerate(texts)]
            usage = {"prompt_tokens": 4, "total_tokens": 4}
            _whole(writer, 200, {"object": "list", "model": body["model"], "data": data, "usage": usage})
        else:
            _whole(writer, 200, _completion(body))

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if self.behaviour == "silent":
            await reader.read()
            return
        if self.behaviour == "pours":
            await self._pour(writer)
            return
        for word in ("joules", " and", " grams"):
            _event(writer, {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            await writer.drain()
            if self.behaviour == "dies":
                return
            if self.behaviour == "stalls":
                await reader.read()
                self.caller_went.set()
                return
        _event(writer, {"choices": [], "usage": USAGE})
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _pour(self, writer: asyncio.StreamWriter) -> None:
        """Words without end, as fast as they are taken."""
        word = {"choices": [{"index": 0, "delta": {"content": "joule " * 2_000}, "finish_reason": None}]}
        try:
            while True:
                _event(writer, word)
                self.poured += 1
                await writer.drain()
        except ConnectionError:
            self.caller_went.set()


@asynccontextmanager
async def fake_models() -> AsyncIterator[FakeModels]:
    """An upstream on a free port."""
    models = FakeModels()
    server = await asyncio.start_server(models.answer, "127.0.0.1", 0)
    models.port = server.sockets[0].getsockname()[1]
    async with server:
        yield models


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "watts"}
    if "tools" in body:
        function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"zone": "FR"}'}
        message = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    if "response_format" in body:
        message = {"role": "assistant", "content": '{"zone": "FR", "grams": 56}'}
    choice = {"index": 0, "message": message, "text": "watts", "finish_reason": "stop"}
    told = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"]}
    if "echo_number" in body:
        told["echo_number"] = body["echo_number"]
    return {**told, "choices": [choice], "usage": USAGE}


def _whole(writer: asyncio.StreamWriter, status: int, document: dict[str, Any]) -> None:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    writer.write(f"{head}connection: close\r\n\r\n".encode() + body)


def _event(writer: asyncio.StreamWriter, document: dict[str, Any]) -> None:
    common = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    _chunk(writer, b"data: " + json.dumps({**common, **document}).encode() + b"\n\n")


def _chunk(writer: asyncio.StreamWriter, piece: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
