"""Writes a project that deploys a model: image, manifests, chart, OpenAPI document, client, tests, CI.

Equal wishes give equal bytes.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files as files_of
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ergonaut.create.calling import request_json
from ergonaut.create.tensors import DRAWS, Spec, drawn
from ergonaut.errors import Refused
from ergonaut.openapi import Described, model_document

MARK = ".ergonaut-project"
"""Lists what we wrote, so that a later export replaces that and nothing else."""

STAGES = ("dev", "staging", "prod")

NATS = "nats:2.15.1-alpine"
"""The message server that the gateway keeps its models in; its binary is taken from this image."""


@dataclass(frozen=True, slots=True)
class Project:
    """What goes into a project."""

    name: str
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    model: bytes
    signature: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What the file says of itself."""


def ensure_own(folder: Path, *, force: bool) -> None:
    """Raise Refused unless the folder is new, empty, or was written by an export before, or `force` says otherwise."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Refused(f"{folder} is no folder; name a new one", field="--export")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file() and not force:
        raise Refused(f"{folder} holds files that are not an export's; name another, or give --force", field="--export")


def export(project: Project, folder: Path, *, force: bool = False) -> list[str]:
    """Write the project; gives its files' names, by name. Files of an earlier export that are no longer made are removed."""
    ensure_own(folder, force=force)
    contents = contents_of(project)
    names = sorted(contents)
    try:
        for name in _earlier(folder):
            if name not in contents:
                (folder / name).unlink(missing_ok=True)
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                raise Refused(f"{path} leads out of the folder; remove that link", field="--export")
            path.write_bytes(contents[name])
        (folder / MARK).write_text("".join(f"{name}\n" for name in names))
    except OSError as error:
        raise Refused(f"{folder} cannot be written: {error}", field="--export") from error
    return names


def contents_of(project: Project) -> dict[str, bytes]:
    """Every file of a project by its name; the same for the same project."""
    values = _values(project)
    environment = Environment(
        loader=PackageLoader("ergonaut.create"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - no page is made, and names are held to letters, digits and dashes
        # The usual braces are Helm's and the CI's own.
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
    )
    contents: dict[str, bytes] = {}
    for template in _templates():
        target = template.removesuffix(".j2").replace("dot-", ".")
        stages = STAGES if "STAGE" in target else ("",)
        for stage in stages:
            text = environment.get_template(template).render(**values, stage=stage)
            contents[target.replace("STAGE", stage)] = text.encode()
    contents["model/model.onnx"] = project.model
    if project.signature:
        contents["model/model.onnx.sig"] = project.signature.encode()
    contents["openapi.json"] = _json(
        model_document(Described(project.name, project.inputs, project.outputs, project.notes))
    )
    contents["example.json"] = _json(request_json(project.inputs, drawn(project.inputs, DRAWS[1])))
    return contents


def _templates() -> list[str]:
    root = files_of("ergonaut.create") / "templates"
    return sorted(_below(root, ""))


def _below(folder: Any, prefix: str) -> list[str]:
    found = []
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        found += _below(entry, f"{name}/") if entry.is_dir() else [name] if name.endswith(".j2") else []
    return found


def _values(project: Project) -> dict[str, Any]:
    return {
        "name": project.name,
        "inputs": [_plain(spec) for spec in project.inputs],
        "outputs": [_plain(spec) for spec in project.outputs],
        "output_names": [spec.name for spec in project.outputs],
        "nats": NATS,
        "memory_mib": _memory_mib(project),
        "stages": STAGES,
    }


def _plain(spec: Spec) -> str:
    """In words that cannot end the text around them; a tensor's name may hold anything."""
    return re.sub(r"[^\w .,:/?()\[\]-]", "_", spec.in_words())


def _memory_mib(project: Project) -> int:
    """What a pod may use: the gateway and its message server, and the model some times over while it loads and runs."""
    return 1024 + 4 * (len(project.model) >> 20)


def _earlier(folder: Path) -> list[str]:
    """The files of the export before. A name that leads elsewhere is not one of ours."""
    mark = folder / MARK
    names = mark.read_text().splitlines() if mark.is_file() else []
    return [name for name in names if name and not Path(name).is_absolute() and ".." not in Path(name).parts]


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
