"""A tracker streams to a real NATS when it is told of one; the bus may be away at any time without harm."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import StreamConfig

import ergonaut
from ergonaut import events
from ergonaut.budgets import BudgetMetric, BudgetScope
from ergonaut.events import STREAMS
from ergonaut.jobs import BudgetAction
from ergonaut.journal import all_entries
from ergonaut.local.home import Home
from ergonaut.local.secrets import SERVICES_USER, ensure_secrets, password_file, write_nats_config
from ergonaut.tracking import stream
from ergonaut.workflows import DEFAULT_TENANT
from ergonaut_common.testing import binary, free_port, nats_server, running


def work(seconds: float) -> None:
    with ergonaut.track(name="streamed") as run:
        run.metric("accuracy", 0.97)
        time.sleep(seconds)


@contextlib.asynccontextmanager
async def bus(url: str, user: str | None = None, password: str | None = None) -> AsyncIterator[Any]:
    """JetStream with the streams that services would have made."""
    connection = await nats.connect(url, user=user, password=password)
    jetstream = connection.jetstream()
    for area in ("runs", "telemetry"):
        spec = STREAMS[area]
        with contextlib.suppress(nats.js.errors.BadRequestError):
            await jetstream.add_stream(StreamConfig(name=spec.name, subjects=spec.subjects))
    try:
        yield jetstream
    finally:
        await connection.close()


@contextlib.contextmanager
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, tuple[str, str]]]:
    """The NATS of an installation, whose trackers have its tenant's user; gives its address and the services' user."""
    port, installation = free_port(), Home(folder / "installation")
    ensure_secrets(installation)
    config = write_nats_config(installation, f"127.0.0.1:{port}")
    monkeypatch.setenv("ERGONAUT_NATS_URL", f"nats://127.0.0.1:{port}")
    monkeypatch.setenv("ERGONAUT_NATS_USER", DEFAULT_TENANT)
    monkeypatch.setenv("ERGONAUT_NATS_PASSWORD_FILE", str(password_file(installation, DEFAULT_TENANT)))
    with running([binary("nats-server"), "--config", str(config)], folder / "nats.log", port):
        yield f"nats://127.0.0.1:{port}", (SERVICES_USER, password_file(installation, SERVICES_USER).read_text())


async def told(jetstream: Any) -> list[dict[str, Any]]:
    """Every event in the streams, runs' first."""
    events = []
    for area in ("runs", "telemetry"):
        name = STREAMS[area].name
        info = await jetstream.stream_info(name)
        for sequence in range(1, info.state.last_seq + 1):
            message = await jetstream.get_msg(name, sequence)
            events.append({"subject": message.subject, "headers": message.headers, **json.loads(message.data)})
    return events


def sequences_of(events: list[dict[str, Any]]) -> list[int]:
    return [event["sequence"] for event in events if "samples" in event]


@pytest.mark.integration
async def test_a_run_is_told_from_its_start_to_its_end(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nats_server(tmp_path / "nats") as url:
        async with bus(url) as jetstream:
            monkeypatch.setenv("ERGONAUT_NATS_URL", url)
            await asyncio.to_thread(work, 1.0)
            events = await told(jetstream)
    started, finished, *sampled = events
    run_id = started["run_id"]
    assert started["subject"] == f"ergonaut.v1.default.runs.run.started.{run_id}"
    assert (started["name"], started["headers"]["Nats-Msg-Id"]) == ("streamed", started["event_id"])
    assert finished["subject"].endswith(f".runs.run.finished.{run_id}")
    assert (finished["state"], finished["metrics"]) == ("succeeded", {"accuracy": 0.97})
    assert sequences_of(sampled) == list(range(1, len(sampled) + 1))
    assert len(sampled) >= 3
    assert {event["producer"] for event in sampled} == {run_id}
    assert {sample["share"] for event in sampled for sample in event["samples"]} == {"run"}
    assert not list(home.glob("runs/*/sent"))


@pytest.mark.integration
async def test_phases_are_told_with_what_was_done_in_them(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train() -> None:
        with ergonaut.track(name="phased", project="vision") as run, run.phase("train"):
            for epoch in range(1200):
                with run.phase("epoch", epoch):
                    run.count("tokens", 8)
            run.metric("loss", 0.5)

    with nats_server(tmp_path / "nats") as url:
        async with bus(url) as jetstream:
            monkeypatch.setenv("ERGONAUT_NATS_URL", url)
            await asyncio.to_thread(train)
            events = await told(jetstream)
    batches = [event for event in events if ".runs.phase.finished." in event["subject"]]
    spans = [span for event in batches for span in event["phases"]]
    assert [(span["phase"], span["step"]) for span in spans] == [
        *(("train/epoch", number) for number in range(1200)),
        ("train", None),
    ]
    assert {span["metrics"]["tokens"] for span in spans[:-1]} == {8}
    assert spans[-1]["metrics"]["tokens"] == 8 * 1200
    assert max(len(event["phases"]) for event in batches) <= 500
    assert len(batches) < 40, "phases are told in batches, not one by one"
    assert len({event["headers"]["Nats-Msg-Id"] for event in batches}) == len(batches)
    (finished,) = [event for event in events if ".runs.run.finished." in event["subject"]]
    assert finished["metrics"] == {"tokens": 8 * 1200, "loss": 0.5}
    assert finished["counted"] == ["tokens"], "a score is no work"
    assert events[0]["project"] == "vision"


def test_a_journal_that_is_read_again_tells_the_same_phases_under_the_same_ids(home: Path) -> None:
    with ergonaut.track() as run:
        for epoch in range(3):
            with run.phase("epoch", epoch):
                time.sleep(0.15)
    assert run.summary is not None
    assert run.summary.journal is not None

    def ids() -> list[str]:
        teller = stream._Teller()
        return [each.event_id for entry in all_entries(run.summary.journal) for each in teller.events(entry)]

    assert ids() == ids()
    assert len(set(ids())) == len(ids())


@pytest.mark.integration
async def test_a_bus_that_comes_late_misses_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("ERGONAUT_NATS_URL", f"nats://127.0.0.1:{port}")
    program = asyncio.create_task(asyncio.to_thread(work, 2.5))
    await asyncio.sleep(1.0)
    with nats_server(tmp_path / "nats", port) as url:
        async with bus(url) as jetstream:
            await program
            events = await told(jetstream)
    sequences = sequences_of(events)
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(events) == len(sequences) + 2


@pytest.mark.integration
@pytest.mark.chaos
async def test_a_bus_that_is_killed_in_between_has_every_sample_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("ERGONAUT_NATS_URL", f"nats://127.0.0.1:{port}")
    with nats_server(tmp_path / "nats", port) as url:
        async with bus(url):
            program = asyncio.create_task(asyncio.to_thread(work, 4.0))
            await asyncio.sleep(1.5)
    await asyncio.sleep(0.5)
    with nats_server(tmp_path / "nats", port) as url:
        async with bus(url) as jetstream:
            await program
            events = await told(jetstream)
    sequences = sequences_of(events)
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(events) == len(sequences) + 2


@pytest.mark.integration
async def test_what_a_bus_that_stayed_away_has_not_had_is_sent_by_recovery(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("ERGONAUT_NATS_URL", f"nats://127.0.0.1:{port}")
    began = time.monotonic()
    await asyncio.to_thread(work, 0.5)
    assert time.monotonic() - began < 0.5 + stream.STOP_SECONDS_MAX + 4
    assert "recover_runs() sends it later" in capsys.readouterr().err
    with nats_server(tmp_path / "nats", port) as url:
        async with bus(url) as jetstream:
            for _ in range(2):
                assert await asyncio.to_thread(ergonaut.recover_runs, home) == []
                events = await told(jetstream)
    sequences = sequences_of(events)
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(events) == len(sequences) + 2


@pytest.mark.integration
async def test_a_bus_that_asks_for_a_password_gets_it_from_its_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("secret\n")
    monkeypatch.setenv("ERGONAUT_NATS_USER", "tracker")
    monkeypatch.setenv("ERGONAUT_NATS_PASSWORD_FILE", str(tmp_path / "password"))
    with nats_server(tmp_path / "nats") as url:
        async with bus(url) as jetstream:
            monkeypatch.setenv("ERGONAUT_NATS_URL", url)
            await asyncio.to_thread(work, 0.3)
            assert len(await told(jetstream)) >= 3


@pytest.mark.integration
async def test_the_user_of_an_installation_may_tell_its_runs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed(tmp_path, monkeypatch) as (url, services):
        async with bus(url, *services) as jetstream:
            await asyncio.to_thread(work, 0.3)
            assert len(await told(jetstream)) >= 3


def exceeded(action: str = "stop", **changes: Any) -> events.BudgetExceeded:
    values: dict[str, Any] = {
        "tenant": "default", "budget_id": "march", "scope": BudgetScope.PROJECT, "scope_key": "vision",
        "metric": BudgetMetric.ENERGY_JOULES, "limit": 100.0, "used": 101.0, "action": BudgetAction(action),
        "window_started_at": datetime(2026, 3, 1, tzinfo=UTC), "window_ends_at": datetime(2126, 4, 1, tzinfo=UTC),
    }  # fmt: skip
    return events.BudgetExceeded(**(values | changes))


class Program:
    """A tracked program that works until it is asked to stop, or until the test has seen that it is not."""

    def __init__(self, **wishes: Any) -> None:
        self.run: ergonaut.Run | None = None
        self.begun, self.leave = threading.Event(), threading.Event()
        self._wishes = wishes

    def work(self) -> str:
        """Why it was asked to stop; empty where it was not."""
        with ergonaut.track(name="trained", project="vision", **self._wishes) as self.run:
            self.begun.set()
            while not self.run.should_stop and not self.leave.wait(0.02):
                pass
            return self.run.stop_wish.because


async def asked_to_stop(url: str, tell: Callable[[str], events.BudgetExceeded], user: tuple[str, ...] = ()) -> str:
    """What a program hears when this is told, and told again as the ledger does while it goes on."""
    program = Program()
    working = asyncio.create_task(asyncio.to_thread(program.work))
    async with bus(url, *user):
        connection = await nats.connect(url, **dict(zip(("user", "password"), user, strict=False)))
        await asyncio.to_thread(program.begun.wait)
        assert program.run is not None
        for _ in range(300):
            event = tell(program.run.run_id)
            await connection.publish(event.subject, event.model_dump_json().encode())
            await asyncio.wait([working], timeout=0.1)
            if working.done():
                break
        program.leave.set()
        because = await working
        await connection.close()
    return because


@pytest.mark.integration
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scope": "tenant", "scope_key": ""},
        {"scope": "project", "scope_key": "renamed", "run_ids": "mine"},
        {"scope": "run", "scope_key": "mine"},
    ],
    ids=["its project's", "its tenant's", "one that names it", "its own"],
)
async def test_a_run_is_asked_to_stop_by_a_budget_of_the_ledger(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    def tell(run_id: str) -> events.BudgetExceeded:
        named = {name: run_id if value == "mine" else value for name, value in changes.items()}
        return exceeded(**{**named, **({"run_ids": (run_id,)} if "run_ids" in named else {})})

    with nats_server(tmp_path / "nats") as url:
        monkeypatch.setenv("ERGONAUT_NATS_URL", url)
        because = await asked_to_stop(url, tell)
    assert because == "budget march is used up: 101 of 100 J"


@pytest.mark.integration
async def test_a_budget_that_pauses_asks_a_tracked_run_to_leave_and_says_who_must_start_it_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nats_server(tmp_path / "nats") as url:
        monkeypatch.setenv("ERGONAUT_NATS_URL", url)
        because = await asked_to_stop(url, lambda _: exceeded("pause"))
    assert "start it again after 2126-04-01T00:00:00+00:00" in because


@pytest.mark.integration
async def test_other_budgets_ask_a_run_for_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = cycle([
        exceeded("tell"),
        exceeded(scope_key="other"),
        exceeded(scope=BudgetScope.RUN, scope_key="run-other"),
        exceeded(window_ends_at=datetime(2026, 4, 1, tzinfo=UTC)),
    ])  # fmt: skip
    own = exceeded(budget_id="april")
    # The run hears its own at last, so it heard the others, each of which was told before, again and again.
    told = chain(islice(others, 20), repeat(own))
    with nats_server(tmp_path / "nats") as url:
        monkeypatch.setenv("ERGONAUT_NATS_URL", url)
        assert "april" in await asked_to_stop(url, lambda _: next(told))


@pytest.mark.integration
async def test_the_user_of_an_installation_hears_of_its_budgets(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed(tmp_path, monkeypatch) as (url, services):
        assert "march" in await asked_to_stop(url, lambda _: exceeded(), services)


async def test_a_password_file_that_is_not_there_does_not_stop_the_program(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERGONAUT_NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("ERGONAUT_NATS_USER", "tracker")
    monkeypatch.setenv("ERGONAUT_NATS_PASSWORD_FILE", str(home / "none"))
    await asyncio.to_thread(work, 0.1)
    assert "No such file" in capsys.readouterr().err
