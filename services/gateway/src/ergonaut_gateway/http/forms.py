"""Requests and answers in plain JSON with named fields, by a model's form: read strictly into tensors, and written row by row.

A form's types are made once a model; then msgspec reads bodies by them and says which field is wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import numpy as np

from ergonaut.errors import Refused
from ergonaut.openapi.forms import ID, LABEL, PARAMETERS, PROBABILITY, ROWS, Field, Form, form_of
from ergonaut.openapi.schemas import ROWS_MAX
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.domain.models import Signature
from ergonaut_gateway.domain.tensors import BF16, BYTES, DTYPES, Tensor, bf16_of, float32_of, object_array
from ergonaut_gateway.http.asking import decoded
from ergonaut_gateway.protocol.json_tensors import BEGINNING_BYTES, Fp32, Fp64
from ergonaut_gateway.protocol.parameters import Asked, asked

BODY_BYTES_MAX = 8 << 20
"""People send no more; who does is better served by binary tensors, which cost a twentieth to read."""

FORMS_MAX = 256
"""Forms that are kept made; beyond it the ones longest unused are made again, which takes about a millisecond."""

_FP16 = float(np.finfo(np.float16).max)
_BF16 = 3.3895313892515355e38
_VALUES: dict[str, Any] = {
    "BOOL": bool,
    "BYTES": str,
    "FP16": Annotated[float, msgspec.Meta(ge=-_FP16, le=_FP16)] | None,
    BF16: Annotated[float, msgspec.Meta(ge=-_BF16, le=_BF16)] | None,
    "FP32": Fp32 | None,
    "FP64": Fp64 | None,
    "UINT64": Annotated[int, msgspec.Meta(ge=0)],
}
for _name, _dtype in DTYPES.items():
    if _dtype.kind in "iu" and _name not in _VALUES:
        _bounds = np.iinfo(_dtype)
        _VALUES[_name] = Annotated[int, msgspec.Meta(ge=int(_bounds.min), le=int(_bounds.max))]

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """What a body asks for."""

    id: str
    inputs: Mapping[str, Tensor]
    rows: int
    parameters: Mapping[str, Any]
    asked: Asked

    def wanted(self) -> InferenceRequest:
        """As all doors hand it on."""
        return InferenceRequest(self.id, self.inputs)


class PlainForm:
    """Reads and writes for one form."""

    def __init__(self, form: Form, signature: Signature) -> None:
        self.form = form
        self._ranks = {spec.name: len(spec.shape) for spec in signature.inputs}
        self._results = {result.name: result for result in form.results}
        # Python's own names for fields, since theirs may be anything.
        python = {f"f{place}": field for place, field in enumerate(form.fields)}
        names = {name: field.name for name, field in python.items()}
        row = [(name, _type(field)) for name, field in python.items()]
        many = ROWS_MAX if form.is_rowed else 1
        columns = [(name, _list(_type(field), 1, many)) for name, field in python.items()]
        self._names = set(names.values())
        beside = [(name, kind, made) for name, kind, made in _BESIDE if name not in self._names]
        rows = _list(_struct(row, names), 1, many)
        self._list = msgspec.json.Decoder(rows)
        self._envelope = msgspec.json.Decoder(_struct([(ROWS, rows), *_BESIDE], {}))
        self._single = msgspec.json.Decoder(_struct([*row, *beside], names))
        self._columns = msgspec.json.Decoder(_struct([*columns, *beside], names))

    def read(self, body: bytes | memoryview) -> PlainRequest:
        """Read a body. Raises Refused, naming the field that is wrong, whatever the bytes are."""
        if len(body) > BODY_BYTES_MAX:
            raise Refused(f"is larger than {BODY_BYTES_MAX >> 20} MiB; use infer with binary tensors", field="body")
        if bytes(body[:BEGINNING_BYTES]).lstrip()[:1] == b"[":
            return self._of_rows(decoded(self._list, body), "", {})
        given = decoded(_object, body)
        if ROWS in given and ROWS not in self._names:
            envelope: Any = decoded(self._envelope, body)
            return self._of_rows(envelope.rows, envelope.id, envelope.parameters)
        is_columns = self.form.is_rowed and any(
            _depth(given[field.name]) > len(field.shape) for field in self.form.fields if field.name in given
        )
        told: Any = decoded(self._columns if is_columns else self._single, body)
        words = getattr(told, ID, ""), getattr(told, PARAMETERS, {})
        if not is_columns:
            return self._of_rows([told], *words)
        return self._of_columns(self._fields_of(told), *words)

    def write(self, answer: InferenceAnswer, rows: int) -> dict[str, Any]:
        """An answer for people: a prediction a row. NaN and infinity become null when it is written."""
        predictions: list[dict[str, Any]] = [{} for _ in range(rows)]
        whole: dict[str, Any] = {}
        for name, tensor in answer.outputs.items():
            values, field = _plain(tensor), self._results.get(name)
            is_told_by_row = field is None or field.by_row
            if not self.form.is_rowed:
                predictions[0][name] = self._named(field, values)
            elif is_told_by_row and values.ndim and len(values) == rows:
                shown = values.reshape(rows) if values.shape == (rows, 1) else values
                for prediction, value in zip(predictions, shown, strict=True):
                    prediction[name] = self._named(field, value)
            else:
                whole[name] = _told(values)
        for prediction in predictions:
            self._tell_likeliest(prediction)
        told: dict[str, Any] = {"model": answer.model, "version": str(answer.version), "predictions": predictions}
        if whole:
            told["outputs"] = whole
        return told | {ID: answer.id} if answer.id else told

    def _of_rows(self, rows: Sequence[Any], request_id: str, parameters: Mapping[str, Any]) -> PlainRequest:
        if not self.form.is_rowed:
            inputs = {}
            for field, value in zip(self.form.fields, self._fields_of(rows[0]), strict=True):
                made = _tensor([value], field)
                inputs[field.tensor] = made.reshape(made.shape[1:])
            return PlainRequest(request_id, inputs, 1, parameters, asked(parameters))
        columns = list(zip(*(self._fields_of(row) for row in rows), strict=True))
        return self._of_columns(columns, request_id, parameters)

    def _of_columns(
        self, columns: Sequence[Sequence[Any]], request_id: str, parameters: Mapping[str, Any]
    ) -> PlainRequest:
        fields = self.form.fields
        rows = len(columns[0])
        for field, column in zip(fields, columns, strict=True):
            if len(column) != rows:
                raise Refused(f"has {len(column)} rows, {fields[0].name} has {rows}", field=field.name)
        by_tensor: dict[str, list[Tensor]] = {}
        for field, column in zip(fields, columns, strict=True):
            by_tensor.setdefault(field.tensor, []).append(_tensor(column, field))
        inputs = {}
        for name, made in by_tensor.items():
            is_column = made[0].ndim < self._ranks[name]
            inputs[name] = np.stack(made, axis=1) if is_column else made[0]
        return PlainRequest(request_id, inputs, rows, parameters, asked(parameters))

    def _fields_of(self, row: Any) -> Sequence[Any]:
        values: tuple[Any, ...] = msgspec.structs.astuple(row)
        return values[: len(self.form.fields)]

    def _named(self, field: Field | None, values: Any) -> Any:
        """A value as it is told: by the names of classes where they are known."""
        if field is not None and field.classes and values.size == len(field.classes):
            return dict(zip(field.classes, values.reshape(-1), strict=True))
        return _told(values)

    def _tell_likeliest(self, prediction: dict[str, Any]) -> None:
        scored = self.form.scored
        scores = prediction.get(scored.name) if scored is not None else None
        if not isinstance(scores, dict):
            return
        is_known = all(np.isfinite(score) for score in scores.values())
        likeliest = max(scores, key=scores.__getitem__) if is_known else None
        prediction[LABEL] = likeliest
        if self.form.tells_probability:
            prediction[PROBABILITY] = scores[likeliest] if likeliest is not None else None


@lru_cache(maxsize=FORMS_MAX)
def plain_form(signature: Signature, notes: tuple[tuple[str, str], ...]) -> PlainForm:
    """The form of a model, by what it takes and gives and what its file says of itself."""
    return PlainForm(form_of(signature.inputs, signature.outputs, dict(notes)), signature)


_BESIDE: list[tuple[str, Any, Any]] = [
    (ID, str, ""),
    (PARAMETERS, dict[str, Any], msgspec.field(default_factory=dict)),
]
"""What a request may have beside its fields."""


def _struct(fields: Iterable[Any], names: Mapping[str, str]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Form", fields, rename=dict(names), forbid_unknown_fields=True)


def _list(kind: Any, least: int, most: int | None = None) -> Any:
    return Annotated[list[kind], msgspec.Meta(min_length=least, max_length=most)]


def _type(field: Field) -> Any:
    kind = _VALUES[field.datatype]
    for length in reversed(field.shape):
        kind = _list(kind, 1) if length < 0 else _list(kind, length, length)
    return kind


def _depth(raw: msgspec.Raw) -> int:
    """How deep a list is nested, told by its first characters."""
    opening = bytes(memoryview(raw)[:BEGINNING_BYTES]).translate(None, b" \t\r\n")
    return len(opening) - len(opening.lstrip(b"["))


def _tensor(rows: Sequence[Any], field: Field) -> Tensor:
    """Rows of one field. Raises Refused where they differ in length, or hold what the datatype cannot."""
    held = {BF16: np.dtype("<f4")}.get(field.datatype, DTYPES[field.datatype])
    try:
        tensor = np.array(rows, dtype=held)
        if field.datatype == BYTES and tensor.ndim == 1 + len(field.shape):
            tensor = object_array([text.encode() for text in tensor.reshape(-1)]).reshape(tensor.shape)
    except (ValueError, OverflowError) as error:
        told = "its lists differ in length" if "inhomogeneous" in str(error) else str(error)
        raise Refused(f"is not {field.datatype}: {told}", field=field.name) from error
    if tensor.ndim != 1 + len(field.shape):
        raise Refused(f"is not {field.datatype}: its lists differ in length", field=field.name)
    return bf16_of(tensor) if field.datatype == BF16 else tensor


def _told(values: Any) -> Any:
    """Values in a form that orjson writes: single ones as such, and lists where they are no numbers."""
    if isinstance(values, np.ndarray) and values.ndim:
        return values.tolist() if values.dtype == object else values
    single = values[()] if isinstance(values, np.ndarray) else values
    # orjson knows floats of numpy, and writes those of 32 bits short; of whole numbers numpy has more types than it knows.
    return single.item() if isinstance(single, np.integer | np.bool_) else single


def _plain(tensor: Tensor) -> Tensor:
    """An output as JSON can hold it. Texts are read as UTF-8; what is none is marked where it stands."""
    if tensor.dtype == DTYPES[BF16]:
        return float32_of(tensor)
    if tensor.dtype != object:
        return np.ascontiguousarray(tensor).reshape(tensor.shape)
    texts = np.empty(tensor.size, dtype=object)
    texts[:] = [element.decode(errors="replace") for element in tensor.reshape(-1)]
    return texts.reshape(tensor.shape)
