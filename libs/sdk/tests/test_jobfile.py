"""A job file is read as its writer meant it, or refused with the line and the field; folders pack to equal bytes."""

import io
import os
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ergonaut import jobfile
from ergonaut.errors import ErgonautError, NotFound, Refused
from ergonaut.jobfile import load_job, pack_folder
from ergonaut.jobs import Objective, source_digest

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOOD = """\
name: digits
command: [python, train.py]
duration_seconds_expected: 30
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_a_whole_job_file_is_read(tmp_path: Path) -> None:
    text = GOOD + (
        "objective: greenest\ndeadline: 30m\nbudget: {cost_usd: 0.05, carbon_grams_co2e: 20}\n"
        "resources:\n  vcpus: 2\n  memory_gib: 4\nenvironment: {EPOCHS: '5'}\nartifacts: ['*.onnx']\nproviders: [local]\n"
    )
    spec, folder = load_job(written(tmp_path, text), now=NOW)
    assert folder == tmp_path.resolve()
    assert spec.command == ("python", "train.py")
    assert spec.objective is Objective.GREENEST
    assert spec.deadline == NOW + timedelta(minutes=30)
    assert (spec.budget.cost_usd, spec.budget.carbon_grams_co2e) == (0.05, 20)


def test_a_folder_stands_for_the_job_file_in_it(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    assert load_job(tmp_path, now=NOW)[0].name == "digits"


@pytest.mark.parametrize(
    ("written_deadline", "meant"),
    [
        ("2026-01-01T14:00:00Z", NOW + timedelta(hours=2)),
        ("2026-01-01T15:00:00+01:00", NOW + timedelta(hours=2)),
        ("'2026-01-01T14:00:00Z'", NOW + timedelta(hours=2)),
        ("90s", NOW + timedelta(seconds=90)),
        ("2h", NOW + timedelta(hours=2)),
        ("1d12h", NOW + timedelta(hours=36)),
    ],
)
def test_a_deadline_is_a_moment_or_a_duration_from_now(tmp_path: Path, written_deadline: str, meant: datetime) -> None:
    spec, _ = load_job(written(tmp_path, f"{GOOD}deadline: {written_deadline}\n"), now=NOW)
    assert spec.deadline == meant


@pytest.mark.parametrize(
    ("text", "field", "line", "says"),
    [
        (GOOD + "deadlin: 2h\n", "deadlin", 4, "did you mean deadline?"),
        (GOOD + "deadline: 2026-01-01T14:00:00\n", "deadline", 4, "no time zone"),
        (GOOD + "deadline: 2026-01-01\n", "deadline", 4, "not precise"),
        (GOOD + "deadline: soon\n", "deadline", 4, "30m, 2h"),
        (GOOD + "deadline: 99999999999d\n", "deadline", 4, "beyond the calendar"),
        (GOOD + "budget:\n  cost_usd: 0\n", "budget.cost_usd", 5, "greater than 0"),
        (GOOD + "budget:\n  cost_eur: 1\n", "budget.cost_eur", 5, "did you mean cost_usd?"),
        (GOOD + "providers: [hertzner]\n", "providers", 4, "unknown provider 'hertzner'"),
        (GOOD + "environment:\n  EPOCHS: 5\n", "environment.EPOCHS", 5, "in quotes"),
        (GOOD + "resources:\n  accelerator: H100-80GB\n", "resources", 4, "give both"),
        (GOOD + "name: twice\n", "name", 4, "given twice"),
        ("name: digits\ncommand: python train.py\nduration_seconds_expected: 1\n", "command", 2, "give a list"),
        ("name: digits\ncommand: [python]\n", "duration_seconds_expected", 1, "is missing"),
    ],
)
def test_a_slip_is_told_with_its_field_and_line(tmp_path: Path, text: str, field: str, line: int, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(Refused) as caught:
        load_job(path, now=NOW)
    assert caught.value.field == field
    assert f"{path}, line {line}" in str(caught.value)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{field}: ")


def test_every_slip_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"objective: .*attempts_max: "):
        load_job(written(tmp_path, GOOD + "attempts_max: 0\nobjective: nicest\n"), now=NOW)


def test_a_value_of_the_environment_is_never_repeated(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        load_job(written(tmp_path, GOOD + "environment:\n  TOKEN: 123456\n"), now=NOW)
    assert "123456" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- just\n- a list\n", "holds fields"),
        ("", "holds fields"),
        ("name: [unclosed\n", "line 2: this is no YAML"),
        ("deadline: 2026-13-45\n", "no YAML"),
        ("? [a, b]\n: c\n", "plain word"),
        ("resources: &r\n  resources: *r\n", "levels deep"),
    ],
)
def test_a_file_that_is_no_job_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        load_job(written(tmp_path, text), now=NOW)


def test_a_missing_file_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"job\.yaml"):
        load_job(tmp_path, now=NOW)


def folder_of(path: Path) -> Path:
    path.mkdir()
    (path / "train.py").write_text("print('hello')\n")
    (path / "deep").mkdir()
    (path / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (path / "deep" / "run.sh").chmod(0o755)
    (path / "latest").symlink_to("deep/run.sh")
    for skipped in (".git", "__pycache__", ".venv"):
        (path / skipped).mkdir()
        (path / skipped / "inside").write_text("noise")
    return path


def test_equal_folders_pack_to_equal_bytes_whenever_and_by_whomever(tmp_path: Path) -> None:
    one, other = folder_of(tmp_path / "one"), folder_of(tmp_path / "other")
    os.utime(other / "train.py", (1, 1))
    (other / "train.py").chmod(0o600)
    assert source_digest(pack_folder(one)) == source_digest(pack_folder(other))


def test_a_packed_folder_holds_its_files_and_no_noise(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(pack_folder(folder_of(tmp_path / "job")))) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert list(members) == ["deep", "deep/run.sh", "latest", "train.py"]
    assert members["deep/run.sh"].mode == 0o755
    assert members["latest"].linkname == "deep/run.sh"
    assert {(member.mtime, member.uid, member.gname) for member in members.values()} == {(0, 0, "")}


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret"])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    folder = folder_of(tmp_path / "job")
    (folder / "away").symlink_to(target)
    with pytest.raises(Refused, match="leads out of the job's folder"):
        pack_folder(folder)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="neither file, folder nor link"):
        pack_folder(tmp_path)


def test_a_folder_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobfile, "SOURCE_BYTES_MAX", 1000)
    (tmp_path / "data.bin").write_bytes(os.urandom(5000))
    with pytest.raises(ErgonautError, match="keep large data elsewhere"):
        pack_folder(tmp_path)
