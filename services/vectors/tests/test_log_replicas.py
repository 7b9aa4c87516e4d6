"""Logs whose streams have three replicas, on three nats-servers of one cluster: writes under way at once stay in their order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import numpy as np
import pytest
from nats.js import JetStreamContext
from nats.js.errors import ServiceUnavailableError

from ergonaut.errors import Unavailable
from ergonaut_common.testing import binary, free_port, running
from ergonaut_vectors.adapters.log import JetStreamLog, stream_of
from ergonaut_vectors.appending import Appender
from ergonaut_vectors.domain.batches import Batch, Chain
from ergonaut_vectors.domain.records import Key
from ergonaut_vectors.domain.segments.writes import Upserts

KEY = Key("acme", "replicated")
SERVERS = 3
BATCHES = 60
PATIENCE_SECONDS = 60.0


class Cluster:
    """Servers that share streams."""

    def __init__(self, folder: Path) -> None:
        self.ports = [free_port() for _ in range(SERVERS)]
        self._routes = [free_port() for _ in range(SERVERS)]
        self._folder = folder

    @contextlib.contextmanager
    def running(self) -> Iterator["Cluster"]:
        with contextlib.ExitStack() as stack:
            for number, port in enumerate(self.ports):
                routes = ",".join(f"nats://127.0.0.1:{route}" for route in self._routes)
                own = f"nats://127.0.0.1:{self._routes[number]}"
                arguments = [binary("nats-server"), "-js", "-sd", str(self._folder / str(number)), "-n", f"n{number}"]
                arguments += ["-a", "127.0.0.1", "-p", str(port), "--cluster_name", "tried"]
                arguments += ["--cluster", own, "--routes", routes]
                log = self._folder / f"{number}.log"
                stack.enter_context(running(arguments, log, port))
            yield self


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path).running() as made:
        yield made


@contextlib.asynccontextmanager
async def stream(cluster: Cluster) -> AsyncIterator[JetStreamContext]:
    """A log with three replicas, as soon as the cluster is one."""
    servers = [f"nats://127.0.0.1:{port}" for port in cluster.ports]
    client = await nats.connect(servers, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    try:
        jetstream = client.jetstream(timeout=5)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(ServiceUnavailableError, nats.errors.Error, Unavailable):
                    await JetStreamLog(jetstream, 16 * 1024 * 1024).make(KEY)
                    break
                await asyncio.sleep(0.1)
            while (info := await jetstream.stream_info(stream_of(KEY))).config.num_replicas != SERVERS:
                with contextlib.suppress(nats.js.errors.APIError):
                    await jetstream.update_stream(info.config, num_replicas=SERVERS)
                await asyncio.sleep(0.1)
        yield jetstream
    finally:
        await client.close()


def batch(number: int) -> Batch:
    return Batch(Upserts([f"{number}-{row}" for row in range(80)], np.full((80, 4), number, np.float32)))


async def written(jetstream: JetStreamContext) -> dict[int, int]:
    """What is in the log: each batch's number by its position; every link of the chain is checked on the way."""
    log, chain, found = JetStreamLog(jetstream, 16 * 1024 * 1024), Chain(), {}
    last = await log.last(KEY)
    assert last is not None
    async with contextlib.aclosing(log.follow(KEY, 0)) as messages:
        async for some in messages:
            for message in some:
                complete = chain.take(message.sequence, message.content)
                if complete is not None:
                    found[message.sequence] = int(complete.write.ids[0].partition("-")[0])
            if some[-1].sequence >= last.sequence:
                return found
    raise AssertionError("following a log ends with its reader")


async def test_writes_that_are_under_way_at_once_stand_in_their_order_on_three_servers(cluster: Cluster) -> None:
    async with stream(cluster) as jetstream:
        appender = Appender(KEY, JetStreamLog(jetstream, 16 * 1024 * 1024))
        positions = await asyncio.gather(*(appender.append(batch(number)) for number in range(BATCHES)))
        assert positions == sorted(positions)
        assert await written(jetstream) == dict(zip(positions, range(BATCHES), strict=True))
