"""Exporters are found by name, are told of a run from its beginning to its end, and never harm it."""

import threading
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import ergonaut
from ergonaut.errors import Refused
from ergonaut.tracking import RunSummary, exporting
from ergonaut.tracking.exporting import LibraryMissing, needed


class Remembering:
    """An exporter that remembers what it was told, or fails where it is to."""

    def __init__(self, fails_in: str = "") -> None:
        self.told: list[tuple[str, RunSummary]] = []
        self.threads: set[str] = set()
        self.progressed = threading.Event()
        self._fails_in = fails_in

    def begin(self, summary: RunSummary) -> None:
        self._remember("begin", summary)

    def progress(self, summary: RunSummary) -> None:
        self._remember("progress", summary)
        self.progressed.set()

    def finish(self, summary: RunSummary) -> None:
        self._remember("finish", summary)

    def _remember(self, what: str, summary: RunSummary) -> None:
        self.told.append((what, summary))
        self.threads.add(threading.current_thread().name)
        if what == self._fails_in:
            raise RuntimeError(f"no {what}")


def test_an_exporter_is_told_of_the_beginning_the_progress_and_the_end(folder: Path) -> None:
    exporter = Remembering()
    with ergonaut.track(exporters=[exporter]) as run:
        assert exporter.progressed.wait(10)
    kinds = [kind for kind, _ in exporter.told]
    assert (kinds[0], kinds[-1], kinds.count("begin"), kinds.count("finish")) == ("begin", "finish", 1, 1)
    assert kinds.count("progress") >= 1
    assert exporter.told[-1][1] is run.summary
    assert exporter.threads == {threading.current_thread().name, "ergonaut-export"}


@pytest.mark.parametrize(
    ("step", "then", "last"),
    [("begin", "is left out", "begin"), ("progress", "is asked again only at the end", "finish"),
     ("finish", "is left out", "finish")],
)  # fmt: skip
def test_an_exporter_that_fails_is_told_of_once_and_breaks_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], step: str, then: str, last: str
) -> None:
    failing, sound = Remembering(step), Remembering()
    with ergonaut.track(exporters=[failing, sound]) as run:
        assert sound.progressed.wait(10)
    assert run.summary is not None
    assert sound.told[-1] == ("finish", run.summary)
    kinds = [kind for kind, _ in failing.told]
    assert kinds[-1] == last, "what it has begun, such as a run of its own, it can end"
    assert kinds.count(step) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "Remembering" in line]
    assert lines == [f"ergonaut: the exporter Remembering failed and {then}: no {step}"]


def test_an_exporter_that_fails_under_way_and_again_at_the_end_is_told_of_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Away(Remembering):
        def progress(self, summary: RunSummary) -> None:
            super().progress(summary)
            raise OSError("away")

        finish = progress

    away = Away()
    with ergonaut.track(exporters=[away]):
        assert away.progressed.wait(10)
    assert len(away.told) == 3
    assert capsys.readouterr().err.count("Away failed") == 1


def test_an_exporter_that_hangs_is_left_behind(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = threading.Event()

    class Hanging(Remembering):
        def finish(self, summary: RunSummary) -> None:
            hung.wait(60)

    monkeypatch.setattr("ergonaut.tracking.begun.FINISH_SECONDS_MAX", 0.2)
    with ergonaut.track(exporters=[Hanging()]):
        pass
    hung.set()
    assert "were left behind" in capsys.readouterr().err


def test_exporters_are_named_in_one_text_and_in_the_environment_with_no_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERGONAUT_EXPORTERS", "csv, json")
    with ergonaut.track(exporters="csv") as run:
        pass
    assert sorted(each.name for each in folder.iterdir()) == ["ergonaut-runs.csv", f"{run.run_id}.json"]
    assert len((folder / "ergonaut-runs.csv").read_text().splitlines()) == 2


def test_a_name_that_no_exporter_has_is_refused_with_those_there_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERGONAUT_EXPORTERS", "abacus")
    with pytest.raises(Refused, match=r"ERGONAUT_EXPORTERS: .*'abacus'.*csv, json, mlflow"), ergonaut.track():
        pass


def test_what_is_no_exporter_is_refused(folder: Path) -> None:
    with pytest.raises(Refused, match="begin, progress and finish"), ergonaut.track(exporters=[object()]):  # type: ignore[list-item]
        pass


def test_a_library_that_is_missing_is_told_with_how_to_install_it() -> None:
    with pytest.raises(LibraryMissing, match=r"pip install 'ergonaut\[tensorboard\]'"):
        needed("no_such_library", "tensorboard")
    with pytest.raises(ImportError, match=r"pip install no_such_library$"):
        needed("no_such_library.part")


def test_a_run_whose_exporter_has_no_library_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Needing(Remembering):
        def begin(self, summary: RunSummary) -> None:
            needed("no_such_library", "tensorboard")

    with ergonaut.track(exporters=[Needing()]) as run:
        pass
    assert run.summary is not None
    assert "pip install 'ergonaut[tensorboard]'" in capsys.readouterr().err


def test_exporters_shipped_are_all_loaded_without_their_libraries() -> None:
    for point in entry_points(group=exporting.GROUP):
        assert isinstance(point.load(), type)
