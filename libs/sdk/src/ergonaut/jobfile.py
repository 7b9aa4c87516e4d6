"""Reads a `job.yaml` as a person writes it, and packs the folder that it stands in, for the CLI and the client."""

import contextlib
import gzip
import io
import os
import re
import tarfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ergonaut.errors import FieldError, NotFound, Refused
from ergonaut.faults import field_errors
from ergonaut.jobs import SOURCE_BYTES_MAX, JobSpec

DEFAULT_NAME = "job.yaml"
"""The file that is read where a folder is given."""

SKIPPED_NAMES = frozenset({".git", "__pycache__", ".venv", ".ergonaut"})
"""Never packed, wherever they stand: history, caches, environments and this platform's own state."""

_FILE_BYTES_MAX = 1024 * 1024  # a job file is written by hand; a larger one is some other file
_DEPTH_MAX = 16  # the contract is three levels deep; more is a mistake or a YAML alias that contains itself
_DURATION = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_DEADLINE_RULE = "give a time such as 2026-01-01T12:00:00Z, or a duration from now such as 30m, 2h or 1d12h"

_Path = tuple[str, ...]


def load_job(path: Path, *, now: datetime | None = None) -> tuple[JobSpec, Path]:
    """The job that a file describes, and the folder of its files; a duration as deadline counts from `now`."""
    file = path / DEFAULT_NAME if path.is_dir() else path
    root = _compose(file)
    lines = dict(_lines(root, ()))
    values = _construct(file, root)
    try:
        if "deadline" in values:
            values["deadline"] = _deadline(values["deadline"], now or datetime.now(UTC))
        return JobSpec.model_validate(values), file.resolve().parent
    except ValidationError as error:
        raise _refused(file, lines, field_errors(error, JobSpec)) from error
    except Refused as error:
        raise _refused(file, lines, [FieldError(error.field, str(error).removeprefix(f"{error.field}: "))]) from error


def _compose(file: Path) -> yaml.MappingNode:
    try:
        text = file.read_bytes()[: _FILE_BYTES_MAX + 1]
    except FileNotFoundError as error:
        raise NotFound(f"there is no job file {file}; give the path of a {DEFAULT_NAME} or of its folder") from error
    except OSError as error:
        raise Refused(f"the job file {file} cannot be read: {error.strerror}") from error
    if len(text) > _FILE_BYTES_MAX:
        raise Refused(f"{file} is larger than 1 MiB, so it is no job file; give the path of a {DEFAULT_NAME}")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(_unreadable(file, error)) from error
    if not isinstance(root, yaml.MappingNode):
        raise Refused(f"{file}: a job file holds fields such as `name: digits`, and this one does not")
    _refuse_twisted(file, root)
    return root


def _construct(file: Path, root: yaml.MappingNode) -> dict[str, Any]:
    try:
        values: dict[str, Any] = yaml.SafeLoader("").construct_document(root)
    except (yaml.YAMLError, ValueError) as error:
        raise Refused(_unreadable(file, error)) from error
    return values


def _unreadable(file: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{file}, line {mark.line + 1}" if mark else str(file)
    return f"{where}: this is no YAML: {getattr(error, 'problem', None) or error}"


def _refuse_twisted(file: Path, node: yaml.Node, depth: int = 1) -> None:
    """YAML readers keep the last of two equal keys in silence; a person who wrote both must be told."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        where = f"({file}, line {key.start_mark.line + 1})"
        if not isinstance(key, yaml.ScalarNode) or depth > _DEPTH_MAX:
            raise Refused(f"a field's name must be a plain word, at most {_DEPTH_MAX} levels deep {where}")
        if key.value in seen:
            raise Refused(f"is given twice {where}; keep one", field=str(key.value))
        seen.add(key.value)
        _refuse_twisted(file, value, depth + 1)


def _lines(node: yaml.Node, path: _Path) -> Iterator[tuple[_Path, int]]:
    """The line on which each field stands, counted from 1."""
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            yield from _lines(value, inner)
            yield inner, key.start_mark.line + 1


def _deadline(value: object, now: datetime) -> object:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Refused(f"{value.isoformat()} has no time zone; {_DEADLINE_RULE}", field="deadline")
        return value
    if isinstance(value, date | int | float):
        raise Refused(f"{value} is not precise; {_DEADLINE_RULE}", field="deadline")
    text = value.strip() if isinstance(value, str) else ""
    match = _DURATION.fullmatch(text)
    if match is None:
        # YAML leaves a time in quotes, and any time in JSON, as a text.
        with contextlib.suppress(ValueError):
            return _deadline(datetime.fromisoformat(text), now)
        raise Refused(f"{value!r} is neither; {_DEADLINE_RULE}", field="deadline")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    try:
        return now + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError as error:
        raise Refused(f"{value!r} lies beyond the calendar; {_DEADLINE_RULE}", field="deadline") from error


def _refused(file: Path, lines: dict[_Path, int], errors: list[FieldError]) -> Refused:
    sentences = [f"{error.message} ({file}, line {_line_of(error.field, lines)})" for error in errors]
    others = [f"{error.field}: {sentence}" for error, sentence in zip(errors[1:], sentences[1:], strict=True)]
    return Refused("; ".join([sentences[0], *others]), field=errors[0].field)


def _line_of(field: str, lines: dict[_Path, int]) -> int:
    """The line of the field or, where it is missing, of the nearest one around it."""
    steps = tuple(re.split(r"[.\[]", field))
    while steps and steps not in lines:
        steps = steps[:-1]
    return lines[steps]


def pack_folder(folder: Path) -> bytes:
    """A gzipped tar of the folder; equal files give equal bytes, so that a second upload is found to be the first."""
    root = folder.resolve()
    if not root.is_dir():
        raise NotFound(f"there is no folder {folder} to pack")
    packed = _Bounded(folder)
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in _members(root):
            _add(tar, path, root)
    return packed.getvalue()


class _Bounded(io.BytesIO):
    """Refuses to grow beyond what may be uploaded, so that a folder of terabytes fails early."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def write(self, chunk: Any) -> int:
        if self.tell() + len(chunk) > SOURCE_BYTES_MAX:
            raise Refused(
                f"the files in {self._folder} are more than {SOURCE_BYTES_MAX >> 20} MiB when packed; "
                "keep large data elsewhere and let the job fetch it"
            )
        return super().write(chunk)


def _members(root: Path) -> Iterator[Path]:
    """Everything below a folder in one order for all machines; links are named and not followed."""
    for path in sorted(root.iterdir(), key=lambda entry: entry.name):
        if path.name in SKIPPED_NAMES:
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _members(path)


def _add(tar: tarfile.TarFile, path: Path, root: Path) -> None:
    member = tarfile.TarInfo(path.relative_to(root).as_posix())
    if path.is_symlink():
        member.type, member.linkname = tarfile.SYMTYPE, _link_inside(path, root)
        tar.addfile(member)
    elif path.is_dir():
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
    elif path.is_file():
        _add_file(tar, member, path)
    else:
        raise Refused(f"{path} is neither file, folder nor link and cannot be packed; move it out of the job's folder")


def _add_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    try:
        with path.open("rb") as content:
            status = os.fstat(content.fileno())
            member.size = status.st_size
            member.mode = 0o755 if status.st_mode & 0o100 else 0o644
            tar.addfile(member, content)
    except OSError as error:
        raise Refused(f"{path} could not be read whole: {error}; leave the folder alone while it is packed") from error


def _link_inside(path: Path, root: Path) -> str:
    target = path.parent.joinpath(path.readlink())
    resolved = Path(os.path.realpath(target))
    if not resolved.is_relative_to(root):
        raise Refused(f"the link {path} leads out of the job's folder, to {resolved}; copy what it points at")
    return os.path.relpath(resolved, os.path.realpath(path.parent))
