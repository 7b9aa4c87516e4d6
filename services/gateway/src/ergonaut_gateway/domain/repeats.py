"""Answers kept for requests that come again: within a bound of bytes, those longest unasked for are dropped first."""

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Mapping

from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.tensors import Tensor, to_raw

Key = tuple[str, str, int, bytes]
"""Tenant, model, version, and the digest of what was asked."""

ENTRY_BYTES = 1_000
"""What an answer takes beside its tensors, so that a bound on bytes bounds the number as well."""


class Repeats:
    """Outputs by what was asked. Sound only for models that always answer the same."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[Key, tuple[Mapping[str, Tensor], int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """How much is kept."""
        return self._bytes

    def get(self, key: Key) -> Mapping[str, Tensor] | None:
        """What was answered, or None where it is not kept."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: Key, outputs: Mapping[str, Tensor]) -> None:
        """Keep an answer if there can be room for it."""
        size = ENTRY_BYTES + sum(size_bytes_of(tensor) for tensor in outputs.values())
        if size > self._bytes_max or key in self._kept:
            return
        # A copy, since the answer may be a view of a whole batch.
        kept = {name: tensor.copy() for name, tensor in outputs.items()}
        for tensor in kept.values():
            tensor.flags.writeable = False
        self._kept[key] = (kept, size)
        self._bytes += size
        while self._bytes > self._bytes_max:
            self._bytes -= self._kept.popitem(last=False)[1][1]


def digest(request: InferenceRequest, outputs: tuple[str, ...]) -> bytes:
    """The same for the same inputs and wanted outputs, and only for these."""
    hashed = hashlib.blake2b(digest_size=32)
    for name in sorted(request.inputs):
        tensor = request.inputs[name]
        raw = to_raw(tensor) if tensor.dtype == object or not tensor.flags.c_contiguous else tensor.data
        told = f"{name}\0{tensor.dtype.str}\0{tensor.shape}".encode()
        hashed.update(struct.pack("<II", len(told), tensor.nbytes))
        hashed.update(told)
        hashed.update(raw)
    hashed.update("\0".join(outputs).encode())
    return hashed.digest()


def size_bytes_of(tensor: Tensor) -> int:
    """Memory that a tensor takes, with its texts, each an object of about 40 bytes more. In bytes."""
    return (
        tensor.nbytes if tensor.dtype != object else tensor.nbytes + sum(len(element) + 40 for element in tensor.flat)
    )
