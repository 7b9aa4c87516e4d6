"""Our own client: callers that ask again at once, or that ask at a fixed rate whatever the answers do. Made of PyPI's parts only.

Several processes share the callers where there are cores for it. It is used for what wrk and h2load cannot do, and in their place
where they are not installed.
"""

import asyncio
import contextlib
import math
import os
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import uvloop
from calls import LOST, OK, Connection, GrpcConnection, HttpConnection
from wires import GRPC_PATH, Door, messages, unlike

# Half of the cores, for the server needs the other; more than four clients are needed by nothing here.
PROCESSES = max(1, min(4, (os.cpu_count() or 1) // 2))
LATE_ANSWERS_SECONDS = 5.0
TICK_SECONDS = 0.001
KEPT_WRONG = 3


@dataclass(frozen=True, slots=True)
class Load:
    """So many callers for so long. With a rate (requests a second), each request has its time, and a caller that is free takes
    it; without, every caller asks again at once. `look` has every answer compared with the right one afterwards."""

    door: Door
    callers: int
    seconds: float
    rate_per_second: float | None = None
    look: bool = False


@dataclass(slots=True)
class Outcome:
    """What came of a load. Latencies are of right answers and count from when a request was due."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)
    unclean: int = 0
    wrong: int = 0
    told: list[str] = field(default_factory=list)
    not_sent: int = 0

    @property
    def per_second(self) -> float:
        """Right answers a second."""
        return self.answers.get(OK, 0) / self.seconds

    @property
    def asked_per_second(self) -> float:
        """All that was sent, a second."""
        return sum(self.answers.values()) / self.seconds

    def latency_ms(self, part: float) -> float:
        """The latency in milliseconds that such a part of the answers keeps within."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1e3 if ordered else float("inf")


def driven(load: Load) -> Outcome:
    """Put the load on its server, from processes of their own, and sum up."""
    count = min(PROCESSES, load.callers)
    rate = None if load.rate_per_second is None else load.rate_per_second / count
    shares = [Load(load.door, load.callers // count, load.seconds, rate, load.look) for _ in range(count)]
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as processes:
        parts = list(processes.map(_one, shares))
    whole = Outcome(max(part.seconds for part in parts))
    for part in parts:
        whole.latencies += part.latencies
        whole.unclean += part.unclean
        whole.wrong += part.wrong
        whole.not_sent += part.not_sent
        whole.told = (whole.told + part.told)[:KEPT_WRONG]
        for status, count in part.answers.items():
            whole.answers[status] = whole.answers.get(status, 0) + count
    return whole


def _one(load: Load) -> Outcome:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Callers(load).run())


class _Callers:
    """All callers of one process."""

    def __init__(self, load: Load) -> None:
        self._load, self._requests = load, messages(load.door)
        self._outcome = Outcome()
        self._kept: list[tuple[int, int, bytes]] = []
        self._free: deque[Connection] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._sent, self._busy, self._over = 0, 0, False
        self._began, self._due, self._total = math.inf, 0, 0
        self._quiet = asyncio.Event()

    async def run(self) -> Outcome:
        """Open all connections, ask, and wait for the last answers."""
        for _ in range(self._load.callers):
            await self._open()
        began = time.monotonic()
        if self._load.rate_per_second is None:
            while self._free:
                self._ask(self._free.popleft(), time.monotonic())
            await asyncio.sleep(self._load.seconds)
        else:
            await self._at_a_rate(began, self._load.rate_per_second)
        self._over = True
        self._outcome.seconds = time.monotonic() - began
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LATE_ANSWERS_SECONDS if self._busy else 0):
                await self._quiet.wait()
        if self._busy:
            self._unclean(f"{self._busy} requests were not answered within {LATE_ANSWERS_SECONDS:g} s", self._busy)
        for connection in self._free:
            connection.close()
        self._judge()
        return self._outcome

    async def _open(self) -> None:
        loop, door = asyncio.get_running_loop(), self._load.door
        headers = [(":method", "POST"), (":scheme", "http"), (":path", GRPC_PATH), (":authority", "127.0.0.1")]
        headers += [("content-type", "application/grpc"), ("te", "trailers")]
        headers += [(name.lower(), value) for name, value in door.headers]

        def made() -> HttpConnection | GrpcConnection:
            return GrpcConnection(self._answered, headers) if door.is_grpc else HttpConnection(self._answered)

        try:
            _, connection = await loop.create_connection(made, "127.0.0.1", door.port)
        except OSError as error:
            self._unclean(f"cannot connect: {error}")
            return
        self._go_on(connection)

    async def _at_a_rate(self, began: float, rate: float) -> None:
        """Send what is due and has a free caller. What finds none waits, and its waiting is part of its latency."""
        self._began, self._total = began, int(rate * self._load.seconds)
        while (now := time.monotonic()) - began < self._load.seconds:
            self._ask_due(now, rate)
            await asyncio.sleep(TICK_SECONDS)
        self._outcome.not_sent = self._total - self._due

    def _ask_due(self, now: float, rate: float) -> None:
        until = min(self._total, int((now - self._began) * rate) + 1)
        while self._due < until and self._free:
            self._ask(self._free.popleft(), self._began + self._due / rate)
            self._due += 1

    def _ask(self, connection: Connection, due: float) -> None:
        connection.row, connection.due = self._sent % len(self._requests), due
        self._sent += 1
        self._busy += 1
        connection.send(self._requests[connection.row])

    def _answered(self, connection: Connection, status: int, came: bytes) -> None:
        now = time.monotonic()
        outcome = self._outcome
        self._busy -= 1
        if self._over and not self._busy:
            self._quiet.set()
        outcome.answers[status] = outcome.answers.get(status, 0) + 1
        if status == OK:
            outcome.latencies.append(now - connection.due)
            if self._load.look:
                self._kept.append((connection.row, status, came))
        elif status not in (429, 503) or b"retry-after:" not in came[: came.find(b"\r\n\r\n")].lower():
            self._unclean(f"{status or 'lost'}: {came[:200].decode(errors='replace')}")
        if status == LOST or b"connection: close" in came[: came.find(b"\r\n\r\n")].lower():
            connection.close()
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._go_on(connection)

    def _go_on(self, connection: Connection) -> None:
        rate = self._load.rate_per_second
        if rate is None and self._sent and not self._over:
            self._ask(connection, time.monotonic())
            return
        self._free.append(connection)
        if rate is not None and self._sent and not self._over:
            # Whatever found no free caller goes at once; the next tick would be late.
            self._ask_due(time.monotonic(), rate)

    def _unclean(self, sentence: str, count: int = 1) -> None:
        self._outcome.unclean += count
        if len(self._outcome.told) < KEPT_WRONG:
            self._outcome.told.append(sentence)

    def _judge(self) -> None:
        """Compare the answers that were kept, now that no time is taken."""
        for row, status, came in self._kept:
            head, _, body = came.partition(b"\r\n\r\n")
            lines = (line.partition(":") for line in head.decode().split("\r\n")[1:])
            headers = {name.strip().lower(): value.strip() for name, _, value in lines}
            if because := unlike(self._load.door, row, (status, headers, body)):
                self._outcome.wrong += 1
                if len(self._outcome.told) < KEPT_WRONG:
                    self._outcome.told.append(because)
