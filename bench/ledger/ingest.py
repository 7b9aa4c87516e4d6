"""How many samples a second come from a publisher through JetStream into ClickHouse, all on one machine. Called by `run.py`."""

import asyncio
import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fleet import Fleet
from nats.js.errors import NotFoundError

from ergonaut.events import PowerSampled
from ergonaut.events.envelope import headers_of
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import ServiceProcess, nats_server
from ergonaut_telemetry.adapters.publishing_link import PublishingLink, open_link

OUTSTANDING_MAX = 64
"""Messages that the publisher has told and JetStream has not yet acknowledged."""

AHEAD_BYTES_MAX = 192 * 1024 * 1024
"""How far the publisher runs ahead of the ledger; the stream holds 512 MiB, and drops its oldest messages beyond."""

LOOK_EVERY_BYTES = 16 * 1024 * 1024
"""How often the publisher looks how far that is."""

STREAM, DURABLE = "ERGONAUT_TELEMETRY", "ledger"
PATIENCE_SECONDS = 600.0

Encoded = tuple[str, bytes, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was seen: `seconds` from the first message told to the last one acknowledged by the ledger."""

    samples: int
    messages: int
    body_bytes: int
    seconds: float
    published_seconds: float
    publisher_cpu_seconds: float
    ledger_cpu_seconds: float
    ledger_memory_mib: float

    @property
    def samples_per_second(self) -> float:
        """From the first message told to the last one kept."""
        return self.samples / self.seconds


def ingest(fleet: Fleet, seconds_of_fleet: int, *, encode_first: bool) -> Ingested:
    """Tell the fleet's samples and wait until the ledger has acknowledged all. Raises where its books do not hold them."""
    with tempfile.TemporaryDirectory(prefix="ergonaut-bench-") as text:
        folder = Path(text)
        with nats_server(folder / "nats") as url:
            process = ServiceProcess(
                "ledger",
                folder / "ledger",
                {"ERGONAUT_NATS_URL": url, "ERGONAUT_LEDGER_SAMPLES_DAYS": "36500"},
                patience_seconds=60,
            )
            with process.running():
                ingested = asyncio.run(_measured(url, process, fleet, seconds_of_fleet, encode_first))
                process.terminate()
                process.exit_code()
        kept = _kept(folder / "ledger" / "data" / "ledger")
    if kept != ingested.samples:
        raise RuntimeError(f"{ingested.samples} samples were told and {kept} are in the books")
    return ingested


async def _measured(
    url: str, process: ServiceProcess, fleet: Fleet, seconds_of_fleet: int, encode_first: bool
) -> Ingested:
    await process.wait_healthy("ergonaut.api.ledger.v1.LedgerService")
    here, there = multiprocessing.get_context("spawn").Pipe()
    publisher = multiprocessing.get_context("spawn").Process(
        target=_publisher, args=(there, url, fleet, seconds_of_fleet, encode_first), daemon=True
    )
    publisher.start()
    ledger = process._process
    assert ledger is not None
    async with open_bus(PlatformSettings(nats_url=url), "bench") as bus:
        await asyncio.to_thread(here.recv)
        before, began = _cpu_seconds(ledger.pid), time.perf_counter()
        here.send("go")
        messages, body_bytes, publisher_cpu_seconds = await asyncio.to_thread(here.recv)
        published = time.perf_counter() - began
        while True:
            assert time.perf_counter() - began < PATIENCE_SECONDS, "the ledger does not keep up"
            with contextlib.suppress(NotFoundError, TimeoutError):
                told = await bus.jetstream.consumer_info(STREAM, DURABLE)
                if told.ack_floor and told.ack_floor.stream_seq >= messages:
                    break
            await asyncio.sleep(0.05)
        seconds = time.perf_counter() - began
    publisher.join()
    return Ingested(
        samples=messages * fleet.samples_per_message,
        messages=messages,
        body_bytes=body_bytes,
        seconds=seconds,
        published_seconds=published,
        publisher_cpu_seconds=publisher_cpu_seconds,
        ledger_cpu_seconds=_cpu_seconds(ledger.pid) - before,
        ledger_memory_mib=_peak_memory_mib(ledger.pid),
    )


def _publisher(pipe: Connection, url: str, fleet: Fleet, seconds_of_fleet: int, encode_first: bool) -> None:
    """A process of its own: says when it is ready, is told to go, says how much it has told."""
    events: Iterable[PowerSampled] = fleet.seconds(seconds_of_fleet)
    encoded: Iterable[Encoded] = map(_encoded, events)
    if encode_first:
        encoded = [*encoded]
    pipe.send("ready")
    pipe.recv()
    before = time.process_time()
    messages, body_bytes = asyncio.run(_publish(url, iter(encoded)))
    pipe.send((messages, body_bytes, time.process_time() - before))


def _encoded(event: PowerSampled) -> Encoded:
    return event.subject, event.model_dump_json().encode(), headers_of(event)


async def _publish(url: str, encoded: Iterator[Encoded]) -> tuple[int, int]:
    """Tell all as an agent does, so many at a time, each acknowledged by JetStream; gives their number and their bytes."""
    platform = PlatformSettings(nats_url=url)
    async with open_bus(platform, "publisher") as bus:
        link = await open_link(platform)
        publisher = _Publisher(bus, link, encoded)
        async with asyncio.TaskGroup() as group:
            for _ in range(OUTSTANDING_MAX):
                group.create_task(publisher.tell())
        link.close()
    return publisher.messages, publisher.body_bytes


class _Publisher:
    """Tells one message after the other; `tell` may run many times at once."""

    def __init__(self, bus: Bus, link: PublishingLink, encoded: Iterator[Encoded]) -> None:
        self.messages = self.body_bytes = 0
        self._bus = bus
        self._link = link
        self._encoded = encoded
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    async def tell(self) -> None:
        for subject, body, headers in self._encoded:
            looks = self.body_bytes // LOOK_EVERY_BYTES
            self.messages, self.body_bytes = self.messages + 1, self.body_bytes + len(body)
            if self.body_bytes // LOOK_EVERY_BYTES > looks:
                await self._not_too_far_ahead()
            await self._link.publish(subject, body, headers)
            await self._may_go_on.wait()

    async def _not_too_far_ahead(self) -> None:
        self._may_go_on.clear()
        message_bytes = self.body_bytes / self.messages
        while (await self._bus.jetstream.consumer_info(STREAM, DURABLE)).num_pending * message_bytes > AHEAD_BYTES_MAX:  # noqa: ASYNC110 - it can only be asked for
            await asyncio.sleep(0.01)
        self._may_go_on.set()


def _kept(folder: Path) -> int:
    """Samples in the books, by the engine itself, once the ledger has left them."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_count, (folder,))


def _count(folder: Path) -> int:
    from ergonaut_ledger.adapters.engine import embedded

    client = embedded(folder)()
    rows: Sequence[Sequence[int]] = client.query("SELECT count() FROM power_samples FINAL").result_rows
    client.close()
    return int(rows[0][0])


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _peak_memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")
