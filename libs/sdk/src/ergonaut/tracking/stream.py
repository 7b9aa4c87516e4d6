"""Sends a run's journal to NATS while it grows: what is not acknowledged is sent again, and what is left waits on the disk.

Over the same connection it hears of used-up budgets. A bus that is away neither delays nor fails the program: only the very end
waits, for a few seconds, for what is left.
"""

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ergonaut.events import Event, PhasesFinished, RunFinished, RunStarted
from ergonaut.events.envelope import headers_of
from ergonaut.events.runs import PHASES_MAX, PhaseSpan, RunState
from ergonaut.ids import derived_id
from ergonaut.journal import EntryKind, JournalEntry, read_entries
from ergonaut.journal_phases import PhasePairing, add_metric, batches_of
from ergonaut.tracking.hearing import BudgetHearing
from ergonaut.tracking.options import BusAddress
from ergonaut.tracking.sentmark import SentMark

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

STOP_SECONDS_MAX = 5.0
"""How long the end of a run waits for the bus; longer would be felt, and `recover_runs` sends the rest."""

_ANSWER_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.5
_RETRY_SECONDS = (0.1, 5.0)
# nats-py's 120 s would leave a half-open link unnoticed for minutes.
_PING_INTERVAL_SECONDS = 2


class BusStream:
    """A thread with an event loop of its own that publishes one journal, and hears of the budgets that hold its run."""

    def __init__(self, journal: Path, bus: BusAddress, hearing: BudgetHearing | None = None) -> None:
        self._journal = journal
        self._bus = bus
        self._hearing = hearing
        self._mark = SentMark(journal)
        self._teller = _Teller()
        self._pid = os.getpid()
        self._stop_at: float | None = None
        self._done = False
        self.last_error = ""
        self._thread = threading.Thread(target=self._run, name="ergonaut-stream", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._mark.create()
        self._thread.start()

    def stop(self, patience_seconds: float = STOP_SECONDS_MAX) -> bool:
        """Send what is left, for so long at most; says whether all of it was acknowledged."""
        if os.getpid() != self._pid:
            return False
        self._stop_at = time.monotonic() + patience_seconds
        self._thread.join(patience_seconds + 2 * _POLL_SECONDS)
        return self._done

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except Exception as error:
            self._remember(error)

    async def _send(self) -> None:
        connection = await self._connected()
        if connection is None:
            return
        try:
            await self._hear(connection)
            self._done = await self._send_all(connection.jetstream(timeout=_ANSWER_TIMEOUT_SECONDS))
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 1.0)
        if self._done:
            self._mark.remove()

    async def _connected(self) -> "Client | None":
        import nats

        async def told(error: Exception) -> None:
            self._remember(error)

        password = self._bus.password()
        # A tenant's user may hear only inboxes of its own name, so that no tenant overhears another's replies.
        credentials = (
            {"user": self._bus.user, "password": password, "inbox_prefix": f"_INBOX_{self._bus.user}"}
            if self._bus.user
            else {}
        )
        connecting = asyncio.ensure_future(
            nats.connect(
                self._bus.url,
                **credentials,
                name="ergonaut-tracker",
                max_reconnect_attempts=-1,
                reconnect_time_wait=_RETRY_SECONDS[0],
                connect_timeout=2,
                ping_interval=_PING_INTERVAL_SECONDS,
                error_cb=told,
            )
        )
        while not connecting.done() and not self._is_late():
            await asyncio.wait([connecting], timeout=_POLL_SECONDS / 5)
        if connecting.done():
            return connecting.result()
        connecting.cancel()
        await asyncio.wait([connecting], timeout=_POLL_SECONDS)
        return None

    async def _hear(self, connection: "Client") -> None:
        """Hear of budgets from now on, also after the bus was away; what cannot be understood is left alone."""
        hearing = self._hearing
        if hearing is None:
            return

        async def heard(message: "Msg") -> None:
            if self._stop_at is None:
                hearing.heard(message.subject, message.data)

        # A bus that does not let us listen tells so to `told`, and is still told of the run.
        await connection.subscribe(hearing.subject, cb=heard)

    async def _send_all(self, jetstream: "JetStreamContext") -> bool:
        """Publish every entry in order until the run has finished; False where time ran out first."""
        offset, position, sent = 0, 0, self._mark.read()
        while True:
            entries, offset = await asyncio.to_thread(read_entries, self._journal, offset)
            for entry in entries:
                position += 1
                events = self._teller.events(entry)
                if events and position > sent:
                    for event in events:
                        if not await self._published(jetstream, event):
                            return False
                    self._mark.write(position)
                if entry.kind is EntryKind.FINISHED:
                    return True
            if not entries:
                if self._is_late():
                    return False
                await asyncio.sleep(_POLL_SECONDS if self._stop_at is None else _POLL_SECONDS / 10)

    async def _published(self, jetstream: "JetStreamContext", event: Event) -> bool:
        payload, headers = event.model_dump_json().encode(), headers_of(event)
        pause_seconds = _RETRY_SECONDS[0]
        while not self._is_late():
            try:
                await jetstream.publish(event.subject, payload, headers=headers)
            except Exception as error:
                self._remember(error)
            else:
                return True
            await asyncio.sleep(pause_seconds if self._stop_at is None else _RETRY_SECONDS[0])
            pause_seconds = min(pause_seconds * 2, _RETRY_SECONDS[1])
        return False

    def _is_late(self) -> bool:
        return self._stop_at is not None and time.monotonic() >= self._stop_at

    def _remember(self, error: BaseException) -> None:
        self.last_error = str(error) or type(error).__name__


class _Teller:
    """Says which events an entry is; the same journal gives the same events with the same ids, however often it is read."""

    def __init__(self) -> None:
        self._started: RunStarted | None = None
        self._metrics: dict[str, float] = {}
        self._counted: set[str] = set()
        self._pairing = PhasePairing()
        self._phases: list[PhaseSpan] = []
        self._phases_told = 0

    def events(self, entry: JournalEntry) -> list[Event]:
        """What to publish for it, in this order. Phases wait for the next sample, so that each second has one event of them."""
        if entry.started is not None:
            self._started = entry.started
            return [entry.started]
        add_metric(self._metrics, entry)
        if entry.counted is not None and entry.name in self._metrics:
            self._counted.add(entry.name)
        self._phases += self._pairing.after(entry)
        if self._started is None:
            return []
        is_end = entry.kind is EntryKind.FINISHED
        is_due = is_end or entry.sampled is not None or len(self._phases) >= PHASES_MAX
        events: list[Event] = self._phases_finished(entry, self._started) if is_due else []
        if entry.sampled is not None:
            events.append(entry.sampled)
        if is_end:
            events.append(self._finished(entry, self._started))
        return events

    def _phases_finished(self, entry: JournalEntry, started: RunStarted) -> list[Event]:
        events: list[Event] = []
        for batch in batches_of(self._phases):
            events.append(
                PhasesFinished(
                    event_id=derived_id("event", started.run_id, "phases", str(self._phases_told)),
                    tenant=started.tenant,
                    occurred_at=entry.at,
                    run_id=started.run_id,
                    job_id=started.job_id,
                    phases=batch,
                )
            )
            self._phases_told += len(batch)
        self._phases.clear()
        return events

    def _finished(self, entry: JournalEntry, started: RunStarted) -> RunFinished:
        return RunFinished(
            event_id=derived_id("event", started.run_id, "finished"),
            tenant=started.tenant,
            occurred_at=entry.at,
            run_id=started.run_id,
            job_id=started.job_id,
            state=entry.state or RunState.FAILED,
            exit_code=entry.exit_code,
            because=entry.because,
            metrics=self._metrics,
            counted=tuple(sorted(self._counted)),
            started_at=started.started_at,
            ended_at=entry.at,
        )
