"""HTTP requests of every door made wrong: their documents, tensors, packing, framing, heads and paths."""

import gzip
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .drawing import TEXTS, WHOLE_NUMBERS, Draw, changed, document_changed, tree, value_drawn, written

X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}
MODELS: dict[str, list[dict[str, Any]]] = {
    "digits": [X],
    "piped": [X],
    "adding": [
        {"name": "a", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]},
        {"name": "b", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]},
    ],
    "id-bytes": [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "é"]}],
    "id-bool": [{"name": "x", "shape": [2, 2], "datatype": "BOOL", "data": [[True, False], [True, True]]}],
    "id-int64": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [1, -2]}],
    "id-uint8": [{"name": "x", "shape": [1, 2], "datatype": "UINT8", "data": [1, 255]}],
    "id-fp16": [{"name": "x", "shape": [1, 2], "datatype": "FP16", "data": [1.5, 2.0]}],
    "id-bf16": [{"name": "x", "shape": [1, 2], "datatype": "BF16", "data": [1.5, 2.0]}],
    "id-fp64": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2e300]}],
}
"""What each model that is served takes."""

RAW = {
    "FP32": "<f4", "BOOL": "?", "INT64": "<i8", "UINT8": "u1", "FP16": "<f2", "BF16": "<u2", "FP64": "<f8",
}  # fmt: skip
MORE = (
    {"id": "7"},
    {"parameters": {"priority": 1, "timeout": 60_000_000}},
    {"parameters": {"binary_data_output": True}},
    {"outputs": [{"name": "y"}]},
    {"outputs": [{"name": "y", "parameters": {"binary_data": True}}], "id": "é"},
    {"parameters": {"sequence_id": 0, "colour": "red"}},
)
"""What a request may say beside its inputs."""

OPENAI = (
    ("chat/completions", {"model": "small", "messages": [{"role": "user", "content": "hi"}], "seed": 7, "temperature": 0.5}),
    ("chat/completions", {"model": "small", "messages": [{"role": "user", "content": "hi"}], "stream": True}),
    ("chat/completions", {
        "model": "small", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    }),
    ("completions", {"model": "small", "prompt": ["a", "b"], "max_tokens": 2**62}),
    ("embeddings", {"model": "small", "input": ["a"], "encoding_format": "float"}),
)  # fmt: skip


def infer_json(draw: Draw, key: str) -> bytes:
    """A prediction asked for in JSON."""
    model, document = _document(draw)
    body = document_changed(draw, document)
    if not draw.randrange(4):
        body = changed(draw, body)
    return post(f"/v2/models/{model}/infer", key, body)


def infer_binary(draw: Draw, key: str) -> bytes:
    """The same by the binary extension, with sizes that lie."""
    model, document = _document(draw)
    pieces = [_as_binary(draw, given) for given in document["inputs"]]
    head = document_changed(draw, document) if draw.randrange(3) else written(tree(document))
    tail = b"".join(pieces)
    if not draw.randrange(3):
        tail = changed(draw, tail)
    length: object = len(head)
    if not draw.randrange(3):
        length = draw.choice(
            (len(head) - 1, len(head) + 1, len(head) + len(tail), 0, *WHOLE_NUMBERS, "", "+1", "1 1", "0x1", "٣", "1_0")
        )
    return post(f"/v2/models/{model}/infer", key, head + tail, (("Inference-Header-Content-Length", length),))


def packed(draw: Draw, key: str) -> bytes:
    """A packed body that is cut off, of another kind than it says, or far larger than it looks."""
    model, document = _document(draw)
    encoding, pack = draw.choice((("gzip", _gzipped), ("deflate", zlib.compress)))
    kind = draw.randrange(6)
    if kind == 0:
        body = pack(b"0" * draw.choice((1_000, 300_000, 3_000_000)))
    elif kind == 1:
        body = pack(pack(written(tree(document))))
    elif kind == 2:
        body = pack(written(tree(document))) + pack(b"{}")
    else:
        body = changed(draw, pack(document_changed(draw, document)))
    if not draw.randrange(3):
        encoding = draw.choice(("br", "gzip, gzip", "identity", "GZIP", "", "zstd", "deflate", "gzip", "a" * 300))
    return post(f"/v2/models/{model}/infer", key, body, (("Content-Encoding", encoding), ("Accept-Encoding", "gzip")))


def people(draw: Draw, key: str) -> bytes:
    """Predictions by named fields: a row, rows, or columns."""
    model = draw.choice(tuple(MODELS))
    row = {each["name"]: each["data"] for each in MODELS[model]}
    forms: tuple[Any, ...] = (
        row,
        [row, row],
        {"rows": [row], "id": "7"},
        {name: [value, value] for name, value in row.items()} | {"id": "7", "parameters": {"priority": 1}},
    )
    body = document_changed(draw, draw.choice(forms))
    if not draw.randrange(6):
        body = changed(draw, body)
    version = draw.choice(("", "", "", "/versions/1", "/versions/x"))
    return post(
        f"/v2/models/{model}{version}/predict", key, body, (("X-Ergonaut-Energy", draw.choice(("", "yes", "true"))),)
    )


def labels(draw: Draw, key: str) -> bytes:
    """What was true, said wrongly."""
    document = {"labels": {"7": 1, "a.0": "cat", "b": 0.5, "é": True}}
    body = (
        document_changed(draw, document) if draw.randrange(4) else written(tree({"labels": {"7": value_drawn(draw)}}))
    )
    return post(f"/v2/models/{draw.choice(('digits', 'id-int64', 'nothing'))}/labels", key, body)


def repository(draw: Draw, key: str) -> bytes:
    """The repository's calls with wrong names and documents; none may load or unload what the others ask for."""
    name = draw.choice(
        (*TEXTS, "spare", "spare", "a b", "*", ">", "a.b", "%2e%2e", "%ff", "%00", "spare/", "x" * 9_000)
    )
    path = draw.choice(
        ("/v2/repository/index", f"/v2/repository/models/{name}/load", f"/v2/repository/models/{name}/unload")
    )
    document = draw.choice(
        ({"ready": True}, {"parameters": {}}, {"parameters": {"unload_dependents": True, "config": "{}"}})
    )
    return post(path, key, document_changed(draw, document) if draw.randrange(3) else b"")


def openai(draw: Draw, key: str) -> bytes:
    """OpenAI's protocol. Most bodies get no further than the door; the others show what an upstream is asked."""
    path, document = draw.choice(OPENAI)
    body = document_changed(draw, document)
    if not draw.randrange(4):
        body = changed(draw, body)
    return post(f"/{draw.choice(('v1', 'openai/v1'))}/{path}", key, body)


def paths(draw: Draw, key: str) -> bytes:
    """Whatever may stand in a request line."""
    word = draw.choice((
        "digits", "nothing", "", ".", "..", "%2f", "%", "%zz", "%c3%28", "a%00b", "é", "*", "{model}", "versions",
        "a" * 400, "/" * 40,
    ))  # fmt: skip
    pattern = draw.choice((
        "/v2/models/{}", "/v2/models/{}/ready", "/v2/models/digits/versions/{}", "/v2/models/digits/versions/{}/infer", "/v2/{}",
        "/{}", "http://h/v2/models/{}/stats", "*", "/v2/models/{}/config?{}", "/v2/models/{}/quality", "/v1/models/{}",
        "/v2/models/{}/openapi.json", "/v2/models/{}/page",
        "/v2/models/stats#{}",
    ))  # fmt: skip
    method = draw.choice(
        ("GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PRI", "PATCH", "M-SEARCH")
    )
    target = pattern.format(word, word).encode()
    if not draw.randrange(3):
        target = changed(draw, target)
    return _head(draw, method.encode(), target, key) + b"\r\n"


def heads(draw: Draw, key: str) -> bytes:
    """A head whose lines are not what they should be."""
    body = written(tree({"inputs": [X]}))
    whole = post("/v2/models/digits/infer", key, body, ((draw.choice(_NAMES), draw.choice(_VALUES)),))
    at = whole.index(b"\r\n\r\n")
    return changed(draw, whole[:at], _HEAD_TOKENS) + whole[at:]


def framing(draw: Draw, key: str) -> bytes:
    """Two requests, the first of which says in two ways, or wrongly, where it ends."""
    body = written(tree({"inputs": [X]}))
    hidden = b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n"
    lengths = [
        str(len(body)).encode(),
        b"0",
        b"5",
        b"-1",
        b"+5",
        b"0x5",
        b"5, 5",
        b"",
        b"9" * 30,
        b"5 5",
        b"%d" % (len(body) + len(hidden)),
    ]
    codings = [
        b"chunked",
        b"Chunked",
        b"chunked, chunked",
        b"identity",
        b"gzip, chunked",
        b"chunked, gzip",
        b" chunked",
        b"chunked\x0b",
        b"x",
        b"",
    ]
    lines = [
        b"POST /v2/models/digits/infer HTTP/1.%d" % draw.choice((1, 1, 1, 0)),
        b"Host: h",
        b"Authorization: Bearer " + key.encode(),
    ]
    for _ in range(draw.randrange(3)):
        lines.append(b"Content-Length: " + draw.choice(lengths))
    for _ in range(draw.randrange(3)):
        lines.append(
            draw.choice(
                (b"Transfer-Encoding: ", b"Transfer-Encoding : ", b"Transfer-Encoding:\t", b"\tTransfer-Encoding: ")
            )
            + draw.choice(codings)
        )
    if not draw.randrange(4):
        lines.append(
            draw.choice(
                (
                    b"Expect: 100-continue",
                    b"Upgrade: h2c\r\nConnection: upgrade",
                    b"Connection: close",
                    b"Connection: keep-alive",
                )
            )
        )
    end = draw.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"))
    sent = chunked(draw, body) if draw.randrange(2) else body
    if not draw.randrange(3):
        sent = changed(draw, sent, _CHUNK_TOKENS)
    return end.join(lines) + end * 2 + sent + hidden


def again(draw: Draw, key: str) -> bytes:
    """Requests whose heads were seen before, the bodies or one head of which are other than they were."""
    whole = post("/v2/models/digits/infer", key, written(tree({"inputs": [X]})))
    at = whole.index(b"\r\n\r\n") + 4
    requests = [whole] * draw.randint(1, 3)
    for _ in range(draw.randint(1, 3)):
        kind = draw.randrange(5)
        if kind == 0:
            requests.append(whole[:at] + changed(draw, whole[at:]))
        elif kind == 1:
            requests.append(changed(draw, whole, _HEAD_TOKENS))
        elif kind == 2:
            requests.append(whole[: draw.randint(1, len(whole))])
        elif kind == 3:
            requests.append(draw.choice((b"\r\n", b"\n", b" ")) + whole)
        else:
            requests.append(whole)
    return b"".join(requests)


def chunked(draw: Draw, body: bytes) -> bytes:
    """A body in chunks, some of which say more or other than their size."""
    out = b""
    while body:
        size = draw.randint(1, len(body))
        piece, body = body[:size], body[size:]
        told = draw.choice(
            (b"%x" % size, b"%X" % size, b"0%x" % size, b"%x;a=b" % size, b"%x ;a" % size, b'%x;a="\r\n"' % size)
        )
        if not draw.randrange(8):
            told = draw.choice((b"-1", b"0x1", b"g", b"f" * 20, b"", b"%x" % (size + 1), b"%x" % (size - 1)))
        out += told + b"\r\n" + piece + draw.choice((b"\r\n",) * 8 + (b"\n", b""))
    return out + b"0\r\n" + draw.choice((b"", b"", b"x: y\r\n", b"content-length: 5\r\n")) + b"\r\n"


def post(path: str, key: str, body: bytes, headers: Sequence[tuple[str, object]] = ()) -> bytes:
    """A whole request."""
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n"
    return (head + "".join(lines)).encode("utf-8", "replace") + b"\r\n" + body


KINDS: dict[str, tuple[int, Callable[[Draw, str], bytes]]] = {
    "infer-json": (30, infer_json),
    "infer-binary": (18, infer_binary),
    "packed": (6, packed),
    "framing": (8, framing),
    "heads": (5, heads),
    "again": (4, again),
    "paths": (4, paths),
    "people": (8, people),
    "labels": (4, labels),
    "repository": (3, repository),
    "openai": (2, openai),
}
"""What requests are made of, with their shares. What an upstream is asked costs milliseconds, so that share is small."""

_NAMES = (
    "Inference-Header-Content-Length", "X-Ergonaut-Tenant", "Traceparent", "Accept-Encoding", "Expect", "Connection",
    "Upgrade", "Host",
    "Content-Type", "Authorization", "Cookie", "X" * 300, "Content-Length", "Trailer", "TE",
)  # fmt: skip
_VALUES = (
    "", "x", "0", "-1", "gzip;q=nan", "gzip;q=1e999, *;q=-1", "100-continue", "close, keep-alive", "h2c", "a" * 9_000,
    "é", "\x01", "bearer",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-zz-zz-zz", "default", "other", "," * 500, "chunked",
)  # fmt: skip
_HEAD_TOKENS = (
    b"\r\n", b"\n", b"\r", b"\0", b"\x0b", b" ", b"\t", b":", b"\r\n ", b"\r\n\t", b"\xff", b"HTTP/1.1", b"HTTP/2.0",
    b"HTTP/1.10",
    b"\r\nContent-Length: 0", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: a\r\nHost: b", b"x: y\r\n" * 120, b"x" * 40_000,
)  # fmt: skip
_CHUNK_TOKENS = (b"\r\n", b"\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b";", b"5\r\nabcde\r\n", b"\0")


def _document(draw: Draw) -> tuple[str, dict[str, Any]]:
    model = draw.choice(tuple(MODELS))
    more: dict[str, Any] = draw.choice(MORE) if draw.randrange(2) else {}
    return model, {"inputs": [dict(each) for each in MODELS[model]], **more}


def _gzipped(content: bytes) -> bytes:
    # The time of packing would make another case of the same number a second later.
    return gzip.compress(content, mtime=0)


def _as_binary(draw: Draw, given: dict[str, Any]) -> bytes:
    """Have an input come as binary, and give its bytes, which may not be those that its size tells."""
    elements = given.pop("data")
    if given["datatype"] == "BYTES":
        raw = b"".join(_prefix(draw, len(each.encode())) + each.encode() for each in elements)
    else:
        raw = np.array(elements).astype(RAW[given["datatype"]]).tobytes()
    size: Any = len(raw)
    if not draw.randrange(3):
        size = draw.choice((size - 1, size + 1, 2 * size, *WHOLE_NUMBERS, 1.0, True, None, str(size)))
    given["parameters"] = {"binary_data_size": size}
    return raw


def _prefix(draw: Draw, size: int) -> bytes:
    told = size if draw.randrange(3) else draw.choice((0, size + 1, 2**31, 2**32 - 1))
    return told.to_bytes(4, "little")


def _head(draw: Draw, method: bytes, target: bytes, key: str) -> bytes:
    version = draw.choice((b"1.1",) * 9 + (b"1.0", b"2.0", b"1.2", b"9.9", b""))
    return (
        method + b" " + target + b" HTTP/" + version + b"\r\nHost: h\r\nAuthorization: Bearer " + key.encode() + b"\r\n"
    )
