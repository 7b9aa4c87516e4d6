"""Predictions kept until somebody says what was true, and how right each version is."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ergonaut.errors import NotFound
from ergonaut.events import QualityChanged
from ergonaut_gateway.domain.inference import InferenceRequest, row_count
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.quality import (
    Interval,
    Labelled,
    PredictionBook,
    QualityChange,
    ScoreRules,
    Scores,
    Truth,
    Unread,
    predictions_of,
)
from ergonaut_gateway.domain.tensors import Tensor

VERSIONS_MAX = 64
"""Versions whose predictions are kept; the one that began longest ago makes room for a new one."""

ROWS_MAX = 1_024
"""Rows of one request that are kept; labels come one by one, not for bulk work."""

UNREAD_BYTES_MAX = 4_096
"""An output of one row that is kept as it is, since to read it costs time; of larger ones and texts the prediction is kept."""

Version = tuple[str, str, int]


class Hear(Protocol):
    """Takes note of a label."""

    def __call__(self, tenant: str, model: str, version: int, *, is_wrong: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Keeping:
    """How many predictions of each version wait for labels; 0 is none."""

    predictions_max: int = 0
    rules: ScoreRules = field(default_factory=ScoreRules)


@dataclass(slots=True, eq=False)
class _Book:
    """One version's predictions and scores."""

    predictions: PredictionBook
    scores: Scores
    labels: Counter[Labelled] = field(default_factory=Counter)


class Labels:
    """Joins labels with predictions."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._books: dict[Version, _Book] = {}
        self.hear: Hear | None = None
        """Told of each label of a prediction that is right or wrong."""

    def answered(self, record: ModelRecord, request: InferenceRequest, outputs: Mapping[str, Tensor]) -> None:
        """Keep what was predicted, under the request's id; of several rows under `<id>.<row>`, counted from 0."""
        if not request.id:
            return
        rows = row_count(request, record.signature)
        if not 0 < rows <= ROWS_MAX:
            return
        key = (record.tenant, record.name, record.version)
        if key not in self._books:
            self._begin(key)
        book = self._books[key].predictions
        if rows == 1 and all(
            tensor.nbytes <= UNREAD_BYTES_MAX and tensor.dtype.kind != "O" for tensor in outputs.values()
        ):
            # Copied, since outputs of requests that ran together share one memory.
            book.remember(request.id, Unread({name: tensor.copy() for name, tensor in outputs.items()}, 1, 0))
            return
        for row, prediction in enumerate(predictions_of(outputs, rows)):
            book.remember(request.id if rows == 1 else f"{request.id}.{row}", prediction)

    def label(
        self, tenant: str, model: str, labels: Mapping[str, Truth]
    ) -> tuple[Counter[Labelled], list[QualityChanged]]:
        """Say what was true, by the key of each prediction, whichever version made it; again is harmless. What became of the
        labels, and the facts that follow. Raises NotFound where nothing was kept of the model."""
        books = {key: book for key, book in self._books.items() if key[:2] == (tenant, model)}
        if not books:
            raise NotFound(f"no predictions of model {model} wait for labels")
        told: list[QualityChanged] = []
        counts: Counter[Labelled] = Counter()
        for label_key, truth in labels.items():
            outcome = Labelled.UNKNOWN
            for version, book in books.items():
                outcome, errors = book.predictions.label(label_key, truth)
                if outcome is not Labelled.UNKNOWN:
                    book.labels[outcome] += 1
                    self._tell_right_or_wrong(version, errors)
                    told += [_fact(version, change) for change in (book.scores.add(errors) if errors else ())]
                    break
            counts[outcome] += 1
        return counts, told

    def figures(self) -> Iterator[tuple[Version, str, Interval]]:
        """Each version's figures over its newest labelled rows."""
        for version, book in list(self._books.items()):
            for name, interval in book.scores.figures().items():
                yield version, name, interval

    def _tell_right_or_wrong(self, version: Version, errors: Mapping[str, float]) -> None:
        if self.hear is not None and "accuracy" in errors:
            self.hear(*version, is_wrong=not errors["accuracy"])

    def _begin(self, key: Version) -> None:
        if len(self._books) >= VERSIONS_MAX:
            del self._books[next(iter(self._books))]
        keeping = self._keeping
        self._books[key] = _Book(PredictionBook(keeping.predictions_max), Scores(keeping.rules))


def _fact(version: Version, change: QualityChange) -> QualityChanged:
    tenant, model, number = version
    return QualityChanged(
        tenant=tenant,
        model=model,
        version=number,
        metric=change.figure,
        is_worse=change.is_worse,
        value=change.now.value,
        value_low=change.now.low,
        value_high=change.now.high,
        baseline=change.before.value,
        baseline_low=change.before.low,
        baseline_high=change.before.high,
        window_rows=change.now.rows,
        baseline_rows=change.before.rows,
    )
