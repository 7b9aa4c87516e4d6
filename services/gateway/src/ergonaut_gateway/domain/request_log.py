"""Which requests are written down, and what of them: a share chosen by a hash of the id, without what must not leave here."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ergonaut.events.quality import TENSORS_MAX, VALUES_MAX, LoggedTensor
from ergonaut_gateway.domain.tensors import BF16, BYTES, Tensor, datatype_of, float32_of, to_raw

TEXT_MAX = 256
"""Characters of one text that are told."""

VALUES_OF_REQUEST_MAX = 2_048
"""Elements of one request that are told, so that a batch of few requests stays small as well."""

_HASHES = 2**64


@dataclass(frozen=True, slots=True)
class Redaction:
    """What of requests is not told. Names are `inputs.<tensor>` or `outputs.<tensor>`; a `*` alone means all."""

    dropped: frozenset[str] = frozenset()
    hashed: frozenset[str] = frozenset()
    texts_allowed: frozenset[str] = frozenset()
    """BYTES tensors that are told; others are dropped, for they may hold what people wrote."""
    salt: bytes = b""
    """Makes hashes differ from those of others; without it short contents can be guessed."""

    def of(self, side: str, name: str, datatype: str) -> str:
        """What is done with a tensor: `dropped`, `hashed` or nothing."""
        full = f"{side}.{name}"
        if _names(self.dropped, full):
            return "dropped"
        if _names(self.hashed, full):
            return "hashed"
        return "dropped" if datatype == BYTES and not _names(self.texts_allowed, full) else ""


def is_sampled(request_id: str, rate: float) -> bool:
    """Whether a request belongs to the sample; the same for the same id in each process, whatever the model.

    >>> is_sampled("a", 1.0), is_sampled("a", 0.0)
    (True, False)
    """
    digest = hashlib.blake2b(request_id.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * _HASHES


def logged_tensors(side: str, tensors: Mapping[str, Tensor], redaction: Redaction) -> tuple[LoggedTensor, ...]:
    """The tensors as they are told; at most so many, and of each at most so many values."""
    logged, room = [], VALUES_OF_REQUEST_MAX // 2
    for name, tensor in list(tensors.items())[:TENSORS_MAX]:
        told = _logged(side, name, tensor, redaction, room)
        room -= len(told.values)
        logged.append(told)
    return tuple(logged)


def _logged(side: str, name: str, tensor: Tensor, redaction: Redaction, room: int) -> LoggedTensor:
    datatype = datatype_of(tensor)
    how = redaction.of(side, name, datatype)
    shape = tuple(tensor.shape)
    if how == "hashed":
        digest = hashlib.blake2b(to_raw(tensor), digest_size=16, key=redaction.salt[:64]).hexdigest()
        return LoggedTensor(name=name, datatype=datatype, shape=shape, values=(digest,), redaction=how)
    if how == "dropped":
        return LoggedTensor(name=name, datatype=datatype, shape=shape, redaction=how)
    kept = min(VALUES_MAX, room)
    first = tensor.ravel()[:kept]
    numbers = float32_of(first) if datatype == BF16 else first
    values = tuple(_value(element) for element in numbers.tolist())
    cut = "truncated" if tensor.size > kept or any(_is_long(element) for element in values) else ""
    values = tuple(value[:TEXT_MAX] if isinstance(value, str) else value for value in values)
    return LoggedTensor.model_construct(name=name, datatype=datatype, shape=shape, values=values, redaction=cut)


def _value(element: bytes | bool | int | float) -> str | bool | int | float | None:
    if isinstance(element, bytes):
        return element.decode(errors="replace")
    if isinstance(element, float) and not math.isfinite(element):
        return None
    return element


def _is_long(value: object) -> bool:
    return isinstance(value, str) and len(value) > TEXT_MAX


def _names(patterns: frozenset[str], full: str) -> bool:
    return full in patterns or "*" in patterns
