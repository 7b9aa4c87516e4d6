"""Bodies of `POST .../infer` over HTTP: a JSON document, followed by binary tensors where the binary extension is used."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec

from ergonaut.errors import Refused
from ergonaut_gateway.domain.batching import Part
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.tensors import DTYPES, Tensor, datatype_of, from_raw, to_raw
from ergonaut_gateway.protocol.bounds import (
    ID_CHARACTERS_MAX,
    JSON_FREE_BYTES,
    NAME_CHARACTERS_MAX,
    PARAMETERS_MAX,
    TENSORS_MAX,
    check_outline,
)
from ergonaut_gateway.protocol.json_tensors import Fp32, dump, flat_tensor, from_json, to_json
from ergonaut_gateway.protocol.parameters import asked, flag, refuse_unsupported

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The HTTP header that says where the JSON ends and the binary tensors begin."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How the caller wants its answer: which outputs as binary tensors, how soon."""

    by_default: bool
    by_output: Mapping[str, bool]
    priority: int = 0
    """1 goes first, 0 is the default."""
    timeout_seconds: float | None = None
    """How long the answer is of use; None is as long as it takes."""
    parameters: Mapping[str, Any] | None = field(default=None, compare=False)
    """All that the request has, for plans that choose by them; of no meaning for the terms themselves."""
    energy: bool = False
    """Whether the answer shall tell what it used."""

    def includes(self, output: str) -> bool:
        """Whether this output is wanted as a binary tensor."""
        return self.by_output.get(output, self.by_default)


JOINT_MIN = 4
"""From so many requests on it pays to write the answers of all rows at once, which in a batch of 32 saves half of the time."""

_ROWS = "JSON"
"""Where `Whole.made` has them."""

USUAL = Terms(by_default=False, by_output={})
"""Of whoever says nothing of outputs and has no parameters."""

_BINARY_ONLY = {"binary_data_output": True}
BINARY = Terms(by_default=True, by_output={})
"""Of whoever has only this to say, as Triton's client does by default."""


_Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]
_Parameters = Annotated[dict[str, Any], msgspec.Meta(max_length=PARAMETERS_MAX)]


class _Input(msgspec.Struct):
    name: _Name
    datatype: str
    shape: list[int]
    parameters: _Parameters = {}
    data: msgspec.Raw = msgspec.Raw()


class _FlatInput(msgspec.Struct):
    """An input as most are in JSON."""

    name: _Name
    datatype: Literal["FP32"]
    shape: list[int]
    data: list[Fp32]
    parameters: _Parameters = {}


class _Output(msgspec.Struct):
    name: _Name
    parameters: _Parameters = {}


_Given = TypeVar("_Given", _Input, _FlatInput)


class _Request(msgspec.Struct, Generic[_Given]):
    inputs: Annotated[list[_Given], msgspec.Meta(max_length=TENSORS_MAX)]
    id: Annotated[str, msgspec.Meta(max_length=ID_CHARACTERS_MAX)] = ""
    parameters: _Parameters = {}
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=TENSORS_MAX)] = []


_decoder = msgspec.json.Decoder(_Request[_Input])
_flat_decoder = msgspec.json.Decoder(_Request[_FlatInput])


def decode_request(body: bytes | memoryview, header_length: str | None = None) -> tuple[InferenceRequest, Terms]:
    """Read a request's body. Raises Refused, naming the field that is wrong, whatever the bytes are."""
    if header_length is None and len(body) > JSON_FREE_BYTES:
        check_outline(body)
    document, inputs = (_flat(body) if header_length is None else None) or _any(body, header_length)
    if not (document.outputs or document.parameters):
        return InferenceRequest(document.id, inputs), USUAL
    outputs = tuple(output.name for output in document.outputs)
    if len(set(outputs)) != len(outputs):
        raise Refused("an output is named twice", field="outputs")
    return InferenceRequest(document.id, inputs, outputs), _terms(document)


def encode_answer(
    answer: InferenceAnswer, terms: Terms, parameters: Mapping[str, Any] | None = None
) -> tuple[bytes, int | None]:
    """Write an answer's body, and the length of its JSON where binary tensors follow."""
    outputs = answer.outputs
    if type(outputs) is Part and not terms.by_default and not terms.by_output and not parameters:
        joint = _joint(answer, outputs)
        if joint is not None:
            return joint, None
    described, pieces = [], []
    for name, tensor in outputs.items():
        output: dict[str, Any] = {"name": name, "datatype": datatype_of(tensor), "shape": tensor.shape}
        if terms.includes(name):
            pieces.append(to_raw(tensor))
            output["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            output["data"] = to_json(tensor, field=f"outputs.{name}")
        described.append(output)
    document: dict[str, Any] = {"model_name": answer.model, "model_version": str(answer.version), "outputs": described}
    if answer.id:
        document["id"] = answer.id
    if parameters:
        document["parameters"] = parameters
    json_part = dump(document)
    if not pieces:
        return json_part, None
    return b"".join((json_part, *pieces)), len(json_part)


def _flat(body: bytes | memoryview) -> tuple[_Request[_FlatInput], dict[str, Tensor]] | None:
    """A document of flat lists of FP32, read in one pass, and its inputs. None for all that is otherwise, or wrong, which is
    then looked at with care; that costs a few microseconds more, since most of it shows before its numbers begin."""
    try:
        document = _flat_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    inputs: dict[str, Tensor] = {}
    for given in document.inputs:
        tensor = flat_tensor(given.data, DTYPES["FP32"], given.shape)
        if tensor is None or given.parameters or given.name in inputs:
            return None
        inputs[given.name] = tensor
    return document, inputs


def _any(body: bytes | memoryview, header_length: str | None) -> tuple[_Request[_Input], dict[str, Tensor]]:
    """Any document and its inputs."""
    if header_length is None:
        document, binary = _document(body), _NOTHING
    else:
        whole, json_bytes = memoryview(body), _json_length(header_length, len(body))
        check_outline(whole[:json_bytes])
        document, binary = _document(whole[:json_bytes]), _Binary(whole[json_bytes:])
    inputs: dict[str, Tensor] = {}
    for given in document.inputs:
        if given.name in inputs:
            raise Refused("is given twice", field=f"inputs.{given.name}")
        inputs[given.name] = _tensor(given, binary)
    binary.check_empty()
    return document, inputs


def _joint(answer: InferenceAnswer, part: Part) -> bytes | None:
    """An answer of one row, which was written with all others of its batch but for the id. None where it cannot be."""
    whole, begin = part.whole, part.begin
    if whole.requests < JOINT_MIN or part.end - begin != 1:
        return None
    # The same batch may be answered under several names, as an endpoint's and its model's.
    key = f"{_ROWS} {answer.model}"
    if key not in whole.made:
        whole.made[key] = _rows_of(answer.model, answer.version, whole.outputs)
    rows: list[bytes] | None = whole.made[key]
    if rows is None:
        return None
    return b'%b]}],"id":%b}' % (rows[begin], dump(answer.id)) if answer.id else rows[begin] + b"]}]}"


def encode_rows(model: str, version: int, outputs: Mapping[str, Tensor], ids: Sequence[bytes]) -> list[bytes] | None:
    """The answers to several usual requests of one row each, whose ids are plain text that needs no escapes; as if each was
    written by itself. None where an output has no numbers, and each must be."""
    columns = _columns_of(model, version, outputs)
    if columns is None:
        return None
    if all(ids):
        columns += (repeat(b']}],"id":"'), ids, repeat(b'"}'))
    else:
        columns.append([b']}],"id":"%b"}' % request_id if request_id else b"]}]}" for request_id in ids])
    return list(map(b"".join, zip(*columns, strict=False)))


def encode_raw_rows(
    model: str, version: int, outputs: Mapping[str, Tensor], ids: Sequence[bytes]
) -> list[tuple[bytes, int]] | None:
    """The same for requests that want all as binary tensors: each with the length of its JSON."""
    described, columns = [], []
    for name, tensor in outputs.items():
        if tensor.dtype.kind not in "biuf" or not tensor.size:
            return None
        size_bytes = tensor.nbytes // len(tensor)
        shape, raw = (1, *tensor.shape[1:]), to_raw(tensor)
        parameters = {"binary_data_size": size_bytes}
        described.append({"name": name, "datatype": datatype_of(tensor), "shape": shape, "parameters": parameters})
        columns.append([raw[at : at + size_bytes] for at in range(0, len(raw), size_bytes)])
    plain = dump({"model_name": model, "model_version": str(version), "outputs": described})
    heads = [b'%b,"id":"%b"}' % (plain[:-1], request_id) if request_id else plain for request_id in ids]
    return [(b"".join(pieces), len(pieces[0])) for pieces in zip(heads, *columns, strict=True)]


def _rows_of(model: str, version: int, outputs: Mapping[str, Tensor]) -> list[bytes] | None:
    """The answer of each row, up to the end of its last number. None where an output has no numbers."""
    columns = _columns_of(model, version, outputs)
    return list(map(b"".join, zip(*columns, strict=False))) if columns is not None else None


def _columns_of(model: str, version: int, outputs: Mapping[str, Tensor]) -> list[Iterable[bytes]] | None:
    """The same in pieces: of each row the first, of each row the second, and so on."""
    if not all(tensor.size and tensor.dtype.kind in "biuf" for tensor in outputs.values()):
        return None
    columns: list[Iterable[bytes]] = []
    opening = dump({"model_name": model, "model_version": str(version)})[:-1] + b',"outputs":['
    for name, tensor in outputs.items():
        described = dump({"name": name, "datatype": datatype_of(tensor), "shape": (1, *tensor.shape[1:])})
        numbers = dump(tensor.reshape(len(tensor), -1))[2:-2].split(b"],[")
        columns += (repeat(opening + described[:-1] + b',"data":['), numbers)
        opening = b"]},"
    return columns


class _Binary:
    """The binary tensors after the JSON, taken in the order of the inputs."""

    def __init__(self, rest: memoryview) -> None:
        self._rest = rest

    def take(self, size_bytes: object, *, field: str) -> memoryview:
        """The next so many bytes."""
        if not isinstance(size_bytes, int) or isinstance(size_bytes, bool) or size_bytes < 0:
            raise Refused("must be a whole number of bytes", field=f"{field}.parameters.binary_data_size")
        if size_bytes > len(self._rest):
            raise Refused(
                f"is {size_bytes}, only {len(self._rest)} bytes are left", field=f"{field}.parameters.binary_data_size"
            )
        taken, self._rest = self._rest[:size_bytes], self._rest[size_bytes:]
        return taken

    def check_empty(self) -> None:
        """Raise Refused where bytes are left that no input asked for."""
        if len(self._rest):
            raise Refused(f"{len(self._rest)} bytes follow that belong to no input", field="body")


_NOTHING = _Binary(memoryview(b""))


def _json_length(header_length: str, body_bytes: int) -> int:
    # isdecimal() takes other scripts' digits too, and int() would take signs, blanks and underscores.
    if not (header_length.isascii() and header_length.isdecimal() and len(header_length) < 20):
        raise Refused("must be a whole number", field=HEADER_LENGTH)
    length = int(header_length)
    if length > body_bytes:
        raise Refused(f"is {length}, the body has {body_bytes} bytes", field=HEADER_LENGTH)
    return length


def _document(json_part: bytes | memoryview) -> _Request[_Input]:
    try:
        return _decoder.decode(json_part)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise Refused(message, field=path.strip("`.") or "body") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused(f"is not JSON: {error}", field="body") from error


def _tensor(given: _Input, binary: _Binary) -> Tensor:
    field = f"inputs.{given.name}"
    refuse_unsupported(given.parameters, field=field)
    size_bytes, data = given.parameters.get("binary_data_size"), memoryview(given.data)
    if size_bytes is None and not data:
        raise Refused("is missing; give data or binary_data_size", field=f"{field}.data")
    if size_bytes is None:
        return from_json(data, given.datatype, given.shape, field=field)
    if data:
        raise Refused("has both data and binary_data_size; give one", field=field)
    return from_raw(binary.take(size_bytes, field=field), given.datatype, given.shape, field=field)


def _terms(document: _Request[_Input] | _Request[_FlatInput]) -> Terms:
    by_output = {}
    for output in document.outputs:
        field = f"outputs.{output.name}"
        refuse_unsupported(output.parameters, field=field)
        if "binary_data" in output.parameters:
            by_output[output.name] = flag(output.parameters["binary_data"], field=f"{field}.parameters.binary_data")
    parameters = document.parameters
    if not parameters:
        return Terms(by_default=False, by_output=by_output)
    if not by_output and parameters == _BINARY_ONLY and parameters["binary_data_output"] is True:
        return BINARY
    wish = asked(parameters)
    return Terms(wish.binary, by_output, wish.priority, wish.timeout_seconds, parameters, wish.energy)
