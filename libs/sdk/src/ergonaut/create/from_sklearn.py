"""scikit-learn to ONNX; runs in the process apart."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ergonaut.create.feeds import read_columns, write_feed
from ergonaut.create.tensors import Array
from ergonaut.errors import Refused
from ergonaut.openapi import CLASSES, FEATURES

DRAWN_ROWS = 64
"""Rows to compare on where none are given."""

INPUT = "x"

HARMLESS = (
    "sklearn._loss.",
    "sklearn.neural_network._stochastic_optimizers.",
    "sklearn.ensemble._hist_gradient_boosting.",
)
"""Where parts of scikit-learn's own estimators live that skops does not list: plain objects that do nothing when made."""


def load(request: Mapping[str, Any]) -> Any:
    """The estimator of a file. A .skops file is refused where it names types that are not scikit-learn's own."""
    path = Path(request["source"])
    if path.suffix != ".skops":
        # Only reached with --trust-pickle.
        return importlib.import_module("joblib").load(path)
    from skops import io

    unknown = io.get_untrusted_types(file=path)
    foreign = [name for name in unknown if not name.startswith(HARMLESS)]
    if foreign:
        raise Refused(f"{path} holds types that are not known to be harmless: {', '.join(foreign[:5])}")
    return io.load(path, trusted=unknown)


def convert(estimator: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Write the ONNX file, the inputs to compare on, and what scikit-learn gives for them."""
    if not hasattr(estimator, "get_params"):
        raise Refused(
            f"{request['source']} is a {type(estimator).__name__}, neither a scikit-learn estimator nor torch"
        )
    width = getattr(estimator, "n_features_in_", None)
    if width is None:
        raise Refused(f"{request['source']} is not fitted; fit it before it is served")
    rows = _rows(request["example"], width)
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    # Maps cannot be served as tensors, so the scores come as a table.
    wishes = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    model = to_onnx(estimator, initial_types=[(INPUT, FloatTensorType([None, width]))], options=wishes)
    _note_names(model, estimator, width)
    Path(request["model"]).write_bytes(model.SerializeToString())
    write_feed(Path(request["feed"]), {INPUT: rows})
    names = [output.name for output in model.graph.output]
    write_feed(Path(request["outputs"]), dict(zip(names, _given(estimator, rows), strict=False)))
    return {}


def _note_names(model: Any, estimator: Any, width: int) -> None:
    """Have the file say how its columns and classes are called, which its tensors do not."""
    features = [each for each in getattr(estimator, "feature_names_in_", ()) if isinstance(each, str)]
    if len(features) == width:
        model.metadata_props.add(key=FEATURES, value=json.dumps(features))
    classes = getattr(estimator, "classes_", None)
    # A list of arrays is that of an estimator with several targets.
    if isinstance(classes, np.ndarray) and classes.ndim == 1:
        model.metadata_props.add(key=CLASSES, value=json.dumps([str(each) for each in classes.tolist()]))


def _rows(example: str | None, width: int) -> Array:
    if example is None:
        return np.random.default_rng(0).standard_normal((DRAWN_ROWS, width)).astype(np.float32)
    columns = list(read_columns(Path(example), option="--example").values())
    rows = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
    table = np.atleast_2d(rows).astype(np.float32)
    if table.ndim != 2 or table.shape[1] != width:
        raise Refused(
            f"{example} has the shape {list(rows.shape)}, but the model takes {width} features", field="--example"
        )
    return table


def _given(estimator: Any, rows: Array) -> list[Array]:
    """What the estimator gives, in the order of the converted model's outputs."""
    if hasattr(estimator, "classes_"):
        scores = [estimator.predict_proba(rows)] if hasattr(estimator, "predict_proba") else []
        labels = np.asarray(estimator.predict(rows))
        return [labels.astype(object) if labels.dtype.kind in "US" else labels, *scores]
    if hasattr(estimator, "predict"):
        return [np.asarray(estimator.predict(rows))]
    transformed = estimator.transform(rows)
    return [np.asarray(transformed.toarray() if hasattr(transformed, "toarray") else transformed)]
