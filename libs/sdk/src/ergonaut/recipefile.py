"""Reads a recipe of retraining as a person writes it, for the CLI and the client.

model: digits
job: job.yaml                     # or the job's fields; paths are beside this file
within_seconds: 7200
judging: {metric: accuracy, need: better}
rollout: {endpoint: digits, hold_seconds: 60}
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ergonaut.errors import NotFound, Refused
from ergonaut.faults import field_errors
from ergonaut.ids import NAME_RULE, is_name
from ergonaut.jobfile import load_job
from ergonaut.retraining import Recipe

FILE_BYTES_MAX = 1024 * 1024
"""A recipe is written by hand; a larger file is some other file."""


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A model's recipe, and the folder of its job's files."""

    model: str
    recipe: Recipe
    folder: Path


def load_recipe(path: Path) -> RecipeFile:
    """The recipe that a file describes, YAML or JSON. Raises NotFound, or Refused naming the field."""
    document = _read(path)
    model = document.pop("model", "")
    if not isinstance(model, str) or not is_name(model):
        raise Refused(f"{model!r} must be {NAME_RULE} ({path})", field="model")
    folder = path.resolve().parent
    if isinstance(document.get("job"), str):
        job, folder = load_job(folder / document["job"])
        document["job"] = job
    try:
        return RecipeFile(model, Recipe.model_validate(document), folder)
    except ValidationError as error:
        first, *others = field_errors(error, Recipe)
        sentences = [first.message, *(f"{other.field}: {other.message}" for other in others)]
        raise Refused(f"{'; '.join(sentences)} ({path})", field=first.field) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()[: FILE_BYTES_MAX + 1]
    except FileNotFoundError as error:
        raise NotFound(f"there is no recipe file {path}") from error
    except OSError as error:
        raise Refused(f"the recipe file {path} cannot be read: {error.strerror}") from error
    if len(text) > FILE_BYTES_MAX:
        raise Refused(f"{path} is larger than 1 MiB, so it is no recipe file")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Refused(f"{path}: this is no YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(document, dict):
        raise Refused(f"{path}: a recipe has fields such as `model: digits`, and this one does not")
    return document
