"""JSON bodies of HTTP requests, read strictly; what is wrong is told with the field that it is in."""

from typing import TypeVar

import msgspec

from ergonaut.errors import Refused

T = TypeVar("T")


def decoded(decoder: "msgspec.json.Decoder[T]", body: bytes | memoryview) -> T:
    """What a body says. Raises Refused for one that is not of the decoder's form."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise Refused(message, field=path.strip("`.") or "body") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused(f"is not JSON: {error}", field="body") from error
