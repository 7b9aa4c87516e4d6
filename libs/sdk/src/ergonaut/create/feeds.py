"""Feeds in files: as the steps hand them to each other, and as people give examples (.json, .npz, .csv)."""

import csv
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ergonaut.create.tensors import DATATYPES, Array, Feed, Spec
from ergonaut.errors import NotFound, Refused

EXAMPLE_BYTES_MAX = 512 << 20
"""A gate needs thousands of rows, not all data; and all is held in memory."""

_NAMES = "names"


def write_feed(path: Path, feed: Feed) -> None:
    """Write values by name. Names stay out of the archive's own names, and texts need no pickle."""
    values = [value.astype(str) if value.dtype == object else value for value in map(np.asarray, feed.values())]
    numbered: dict[str, Any] = {f"v{place}": value for place, value in enumerate(values)}
    numbered[_NAMES] = np.array([*feed], dtype=str)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **numbered)


def read_feed(path: Path) -> dict[str, Array]:
    """What `write_feed` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        values = [archive[f"v{place}"] for place in range(len(archive[_NAMES]))]
        names = [str(name) for name in archive[_NAMES]]
    return {name: _texts(value) for name, value in zip(names, values, strict=True)}


def read_example(path: Path, specs: Sequence[Spec], *, option: str = "--example") -> dict[str, Array]:
    """The inputs that a person gives, by name, fit for these inputs. Raises Refused that says which does not fit."""
    columns = read_columns(path, option=option)
    if len(specs) == 1 and specs[0].name not in columns:
        columns = {specs[0].name: _stacked(path, columns, option)}
    missing = [spec.name for spec in specs if spec.name not in columns]
    if missing:
        raise Refused(f"{path} does not give {', '.join(missing)}; it gives {', '.join(columns)}", field=option)
    return {spec.name: fitted(spec, columns[spec.name], where=f"{path}: {spec.name}", option=option) for spec in specs}


def read_columns(path: Path, *, option: str) -> dict[str, Array]:
    """The arrays of a file by name. A .csv has one column a feature, and its first line names them."""
    readers = {".json": _read_json, ".npz": _read_npz, ".npy": _read_npy, ".csv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise Refused(f"{path} must end in {', '.join(readers)}", field=option)
    try:
        if path.stat().st_size > EXAMPLE_BYTES_MAX:
            raise Refused(f"{path} is larger than {EXAMPLE_BYTES_MAX >> 20} MiB; give some of the rows", field=option)
        columns = reader(path)
    except FileNotFoundError as error:
        raise NotFound(f"{option}: there is no file {path}") from error
    except Refused:
        raise
    except Exception as error:
        # A dozen unrelated errors say that a file is not what its name promises.
        raise Refused(f"{path} cannot be read as {path.suffix}: {error}", field=option) from error
    if not columns or any(value.size == 0 for value in columns.values()):
        raise Refused(f"{path} holds no values", field=option)
    return columns


def read_labels(path: Path, rows: int) -> Array:
    """The right answers, one a row. Raises Refused where their number is another."""
    columns = read_columns(path, option="--labels")
    if len(columns) != 1:
        raise Refused(f"{path} must hold one column and holds {', '.join(columns)}", field="--labels")
    labels = next(iter(columns.values())).reshape(-1)
    if len(labels) != rows:
        raise Refused(f"{path} holds {len(labels)} labels for {rows} examples", field="--labels")
    return labels


def fitted(spec: Spec, value: Array, *, where: str, option: str) -> Array:
    """A value in an input's type and shape; one row less its first axis is taken as one row. Raises Refused."""
    kind = DATATYPES[spec.datatype]
    try:
        typed = value.astype(str).astype(object) if spec.datatype == "BYTES" else value.astype(kind)
    except (TypeError, ValueError) as error:
        raise Refused(f"{where} holds what is no {spec.datatype}: {error}", field=option) from error
    if typed.ndim == len(spec.axes) - 1:
        typed = typed[np.newaxis]
    fits = typed.ndim == len(spec.axes) and all(
        axis in (-1, length) or place == 0
        for place, (axis, length) in enumerate(zip(spec.shape, typed.shape, strict=True))
    )
    if not fits:
        raise Refused(f"{where} has the shape {list(typed.shape)}, but the model takes {spec.in_words()}", field=option)
    return typed


def _stacked(path: Path, columns: Mapping[str, Array], option: str) -> Array:
    """One matrix of a table's columns; of a single array, itself."""
    values = list(columns.values())
    if len(values) == 1:
        return values[0]
    if any(value.ndim != 1 for value in values):
        raise Refused(f"{path} gives {', '.join(columns)}, none of which is an input of the model", field=option)
    return np.stack(values, axis=1)


def _read_json(path: Path) -> dict[str, Array]:
    content = json.loads(path.read_bytes())
    if isinstance(content, dict) and isinstance(content.get("inputs"), list):
        content = {each["name"]: np.reshape(each["data"], each["shape"]) for each in content["inputs"]}
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = {name: [row[name] for row in content] for name in content[0]}
    if isinstance(content, list):
        content = {"rows": content}
    return {str(name): np.asarray(value) for name, value in content.items()}


def _read_npz(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as members:
        unpacked_bytes = sum(member.file_size for member in members.infolist())
    if unpacked_bytes > EXAMPLE_BYTES_MAX:
        raise Refused(
            f"{path} is {unpacked_bytes >> 20} MiB when unpacked, and {EXAMPLE_BYTES_MAX >> 20} MiB are taken"
        )
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _read_npy(path: Path) -> dict[str, Array]:
    return {"rows": np.load(path, allow_pickle=False)}


def _read_csv(path: Path) -> dict[str, Array]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        names, *rows = [row for row in csv.reader(file) if row]
    uneven = next((place for place, row in enumerate(rows) if len(row) != len(names)), None)
    if uneven is not None:
        raise Refused(f"{path}: row {uneven + 2} has {len(rows[uneven])} fields, the first line {len(names)}")
    return {name: _numbers([row[place] for row in rows]) for place, name in enumerate(names)}


def _numbers(texts: Sequence[str]) -> Array:
    try:
        return np.array([int(text) for text in texts])
    except ValueError:
        pass
    try:
        return np.array([float(text) for text in texts])
    except ValueError:
        return np.array(texts)


def _texts(value: Array) -> Array:
    return value.astype(object) if value.dtype.kind == "U" else value
