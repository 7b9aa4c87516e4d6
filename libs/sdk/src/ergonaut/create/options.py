"""What a person may wish of `ergonaut create`, by options or by a file of the same names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ergonaut.errors import NotFound, Refused
from ergonaut.faults import field_errors
from ergonaut.ids import NAME_PATTERN

_FILE_BYTES_MAX = 1 << 20  # a configuration is written by hand; a larger one is some other file

Level = Literal["off", "basic", "extended", "all"]
Quantisation = Literal["off", "dynamic", "static"]


class CreateOptions(BaseModel):
    """One wish. Relative paths in a file are taken from the folder of that file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="A file, module:attribute, or hf:ID for a Hugging Face model.")
    name: str = Field(default="", description="The name to serve under; the file's own where it is not given.")
    run: str = Field(default="", description="The run that trained the model.")
    example: Path | None = Field(default=None, description="Inputs to try, .json, .npz or .csv.")
    labels: Path | None = Field(default=None, description="The right answers for the examples, .json, .npz or .csv.")
    calibration: Path | None = Field(default=None, description="Inputs that tell static quantisation the ranges.")
    trust_pickle: bool = Field(default=False, description="Open .pkl and .joblib, which run code of their maker.")
    free_batch: bool | None = Field(default=None, description="Free a batch axis fixed at 1 where a run proves it.")
    drop_maps: bool | None = Field(default=None, description="Give tensors where the model gives maps (ZipMap).")
    absolute_max: float = Field(default=1e-4, ge=0, description="Largest absolute difference from the source model.")
    relative_max: float = Field(default=1e-3, ge=0, description="Largest relative difference from the source model.")
    unlike_share_max: float = Field(default=0.0, ge=0, le=1, description="Share of values that may lie beyond both.")
    optimise: Level = Field(default="basic", description="How far onnxruntime may rewrite the graph beforehand.")
    quantise: Quantisation = Field(default="off", description="Make weights int8; static also makes activations int8.")
    accuracy_drop_max: float = Field(default=0.01, ge=0, le=1, description="Accuracy that int8 may cost, by labels.")
    agreement_min: float = Field(default=0.99, ge=0, le=1, description="Share of int8's answers that must stay.")
    timeout_seconds: float = Field(default=120.0, gt=0, description="Seconds that each step apart may take.")
    memory_mib_max: int = Field(default=4096, ge=64, description="MiB that each step apart may use.")
    sign_key: Path | None = Field(default=None, description="Private key, PEM, to sign the model with.")
    output: Path | None = Field(default=None, description="Where to write the finished ONNX file.")
    export: Path | None = Field(default=None, description="Folder for a project that deploys the model.")
    force: bool = Field(default=False, description="Write the project into a folder that holds other files.")
    serve: bool = Field(default=True, description="Serve it by the system that runs here.")

    @property
    def served_name(self) -> str:
        """The name to serve under. Raises Refused where it is not fit for one."""
        name = self.name or _name_of(self.model)
        if not re.fullmatch(NAME_PATTERN, name):
            raise Refused(
                f"{name!r} cannot name a model; give 1 to 63 lower-case letters, digits, dashes", field="--name"
            )
        return name


def options_from(config: Path | None, given: Mapping[str, Any]) -> CreateOptions:
    """The wish of a configuration file, replaced by what was given beside it. Raises Refused with every field at fault."""
    values = {**(_read(config) if config else {}), **given}
    if not values.get("model"):
        raise Refused("give a model: a file, module:attribute, or hf:ID", field="MODEL")
    try:
        return CreateOptions.model_validate(values)
    except ValidationError as error:
        where = f" ({config})" if config else ""
        told = "; ".join(f"{fault.field}: {fault.message}" for fault in field_errors(error, CreateOptions))
        raise Refused(f"{told}{where}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no configuration {path}; give a yaml or json file") from error
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", field="--config") from error
    if len(text) > _FILE_BYTES_MAX:
        raise Refused(f"{path} is larger than 1 MiB, so it is no configuration", field="--config")
    try:
        values = yaml.safe_load(text)  # JSON is YAML too
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise Refused(f"{path}{line} is neither YAML nor JSON: {getattr(error, 'problem', error)}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise Refused(f"{path} holds no fields such as `name: digits`", field="--config")
    return {key: _from_there(path, key, value) for key, value in values.items()}


_PATHS = ("example", "labels", "calibration", "sign_key", "output", "export")


def _from_there(config: Path, key: str, value: Any) -> Any:
    """A path as seen from the configuration's folder; the model only where there is such a file."""
    if not isinstance(value, str):
        return value
    there = config.parent / value
    return str(there) if key in _PATHS or (key == "model" and there.exists()) else value


def _name_of(model: str) -> str:
    """A name for a model that was given none.

    >>> _name_of("out/My_Model.v2.onnx"), _name_of("shop.models:ranker"), _name_of("hf:org/Tiny-BERT")
    ('my-model-v2', 'ranker', 'tiny-bert')
    """
    last = re.split(r"[/\\:]", model.rstrip("/\\"))[-1]
    stem = re.sub(r"\.(onnx|pt2|skops|joblib|pkl|safetensors)$", "", last.lower())
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:63].strip("-")
