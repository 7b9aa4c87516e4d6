"""How much of a request is taken beside its bytes, the same over all wires: what is small on the wire may be large in memory."""

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

JSON_FREE_BYTES = 1024 * 1024
"""Documents up to here need not be looked through: they cannot hold many."""


def check_numbers(document: bytes | memoryview) -> None:
    """Raise Refused for a JSON document that holds too many elements to be read; looked at before anything of it is made."""
    if len(document) > JSON_FREE_BYTES and (count := bytes(document).count(b",")) > JSON_NUMBERS_MAX:
        raise Refused(
            f"has about {count} elements, at most {JSON_NUMBERS_MAX} are taken as JSON; send binary tensors, or less at once",
            field="body",
        )


def check_length(text: str, most: int, *, field: str) -> None:
    """Raise Refused for a name or an id that is too long; it is not repeated."""
    if len(text) > most:
        raise Refused(f"has {len(text)} characters, at most {most} are taken", field=field)


def check_count(count: int, most: int, *, field: str) -> None:
    """Raise Refused for too many of something."""
    if count > most:
        raise Refused(f"has {count} entries, at most {most} are taken", field=field)
