"""How much of a request is taken beside its bytes, the same over all wires: what is small on the wire may be large in memory."""

import msgspec

from ergonaut.errors import Refused

TENSORS_MAX = 256
"""Inputs, or outputs, of one request; models have a handful."""

PARAMETERS_MAX = 100
"""Of a request or a tensor."""

NAME_CHARACTERS_MAX = 256
"""Of a tensor's name; it comes back in errors."""

ID_CHARACTERS_MAX = 1_024
"""Of a request's id, which comes back in the answer."""

JSON_NUMBERS_MAX = 2**23
"""Elements of all tensors of one JSON document: while they are read each takes 32 bytes, so these 270 MB. More come as binary."""

JSON_LISTS_MAX = 2**20
"""Lists in one JSON document, as many rows as nested tensors may have: each takes as much as ten numbers."""

PARAMETERS_BYTES_MAX = 256 * 1024
"""Of the parameters of a request, or of a tensor, where its document is large: 100 texts of 2 kB."""

JSON_FREE_BYTES = 1024 * 1024
"""Documents up to here need not be looked through: they cannot hold many."""


def check_numbers(document: bytes | memoryview) -> None:
    """Raise Refused for a JSON document that holds too many elements to be read; looked at before anything of it is made."""
    if len(document) > JSON_FREE_BYTES and (count := bytes(document).count(b",")) > JSON_NUMBERS_MAX:
        raise Refused(
            f"has about {count} elements, at most {JSON_NUMBERS_MAX} are taken as JSON; send binary tensors, or less at once",
            field="body",
        )


class _Outline(msgspec.Struct):
    """A request, its parts unread: so that they can be counted before an object is made of each."""

    inputs: list[msgspec.Raw] = []
    outputs: list[msgspec.Raw] = []
    parameters: msgspec.Raw = msgspec.Raw()


class _TensorOutline(msgspec.Struct):
    parameters: msgspec.Raw = msgspec.Raw()


_outline = msgspec.json.Decoder(_Outline)
_tensor_outline = msgspec.json.Decoder(_TensorOutline)


def check_outline(document: bytes | memoryview) -> None:
    """Raise Refused for a large JSON document of very many small things: to make each would keep all other callers waiting. It is
    skimmed for this at some GB a second. One that is malformed is left to who reads it."""
    if len(document) <= JSON_FREE_BYTES:
        return
    check_numbers(document)
    if (count := bytes(document).count(b"[")) > JSON_LISTS_MAX:
        raise Refused(f"has about {count} lists, at most {JSON_LISTS_MAX} are taken; send flat lists", field="body")
    try:
        outline = _outline.decode(document)
        parts = {"inputs": outline.inputs, "outputs": outline.outputs}
        for name, tensors in parts.items():
            check_count(len(tensors), TENSORS_MAX, field=name)
        read = [_tensor_outline.decode(each) for tensors in parts.values() for each in tensors]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return
    parameters = (outline.parameters, *(each.parameters for each in read))
    largest = max(len(memoryview(each)) for each in parameters)
    if largest > PARAMETERS_BYTES_MAX:
        raise Refused(f"have {largest} bytes, at most {PARAMETERS_BYTES_MAX} are taken", field="parameters")


def check_length(text: str, most: int, *, field: str) -> None:
    """Raise Refused for a name or an id that is too long; it is not repeated."""
    if len(text) > most:
        raise Refused(f"has {len(text)} characters, at most {most} are taken", field=field)


def check_count(count: int, most: int, *, field: str) -> None:
    """Raise Refused for too many of something."""
    if count > most:
        raise Refused(f"has {count} entries, at most {most} are taken", field=field)
