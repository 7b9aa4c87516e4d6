"""Every port in memory, for tests and for trying things without NATS; contract tests hold them to what the adapters do."""

import asyncio
import codecs
import copy
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from ergonaut.errors import Conflict, NotFound, Refused, Unavailable
from ergonaut.events import Event
from ergonaut.gateways import GatewayAnnounced
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.demand import NOTHING_YET, History, Report
from ergonaut_gateway.domain.endpoints.figures import EndpointFigures, FiguresEntry
from ergonaut_gateway.domain.endpoints.records import EndpointEntry, EndpointRecord
from ergonaut_gateway.domain.files import FileEntry, KeptFile
from ergonaut_gateway.domain.inference import Busy, DeadlineExceeded, InferenceAnswer
from ergonaut_gateway.domain.models import Entry, Model, ModelRecord, Signature, TensorSpec
from ergonaut_gateway.domain.peers import Errand, PeerAway
from ergonaut_gateway.domain.pipelines.recipes import Recipe
from ergonaut_gateway.domain.pipelines.records import PipelineEntry, PipelineRecord
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.ports import Stop

DOUBLING = Signature(inputs=(TensorSpec("x", "FP32", (-1, 3)),), outputs=(TensorSpec("y", "FP32", (-1, 3)),))
"""What a fake model takes and gives; it doubles."""


class _Named(Protocol):
    @property
    def tenant(self) -> str: ...
    @property
    def name(self) -> str: ...


class _Revised(Protocol):
    @property
    def revision(self) -> int: ...


RecordT = TypeVar("RecordT", bound=_Named)
EntryT = TypeVar("EntryT", bound=_Revised)


class _FakeRecords(Generic[RecordT, EntryT]):
    """Records in memory, written by compare-and-set."""

    def __init__(self, entry: Callable[[RecordT, int], EntryT], what: str) -> None:
        self._entry = entry
        self._what = what
        self._entries: dict[tuple[str, str], EntryT] = {}
        self._revision = 0
        self._changed = asyncio.Condition()

    async def get(self, tenant: str, name: str) -> EntryT | None:
        return self._entries.get((tenant, name))

    async def put(self, record: RecordT, /, *, revision: int) -> EntryT:
        key = (record.tenant, record.name)
        current = self._entries.get(key)
        if (current.revision if current else 0) != revision:
            raise Conflict(f"{self._what} {record.name} was changed by another")
        async with self._changed:
            self._revision += 1
            self._entries[key] = self._entry(record, self._revision)
            self._changed.notify_all()
        return self._entries[key]

    async def entries(self) -> Sequence[EntryT]:
        return sorted(self._entries.values(), key=lambda entry: entry.revision)

    async def changes(self, *, seconds: float) -> AsyncIterator[EntryT]:
        seen = 0
        end_at = asyncio.get_running_loop().time() + seconds
        while True:
            for entry in await self.entries():
                if entry.revision > seen:
                    seen = entry.revision
                    yield entry
            try:
                async with asyncio.timeout_at(end_at), self._changed:
                    if self._revision <= seen:
                        await self._changed.wait()
            except TimeoutError:
                return


class FakeModelRegistry(_FakeRecords[Model, Entry]):
    """A `ModelRegistry` in memory."""

    def __init__(self) -> None:
        super().__init__(Entry, "model")


class FakePipelineBook(_FakeRecords[PipelineRecord, PipelineEntry]):
    """A `PipelineBook` in memory."""

    def __init__(self) -> None:
        super().__init__(PipelineEntry, "pipeline")


class FakeEndpointBook(_FakeRecords[EndpointRecord, EndpointEntry]):
    """An `EndpointBook` in memory."""

    def __init__(self) -> None:
        super().__init__(EndpointEntry, "endpoint")


class FakeFiguresBook:
    """A `FiguresBook` in memory."""

    def __init__(self) -> None:
        self.away = False
        self._told: dict[tuple[str, str], dict[str, FiguresEntry]] = {}
        self._revision = 0

    async def tell(self, tenant: str, name: str, figures: EndpointFigures) -> None:
        self._check_here()
        self._revision += 1
        # As it is now: whoever counts on must not change what was told.
        kept = FiguresEntry(tenant, name, copy.deepcopy(figures), self._revision)
        self._told.setdefault((tenant, name), {})[figures.process] = kept

    async def told(self, tenant: str, name: str) -> Sequence[EndpointFigures]:
        self._check_here()
        return [entry.figures for entry in self._told.get((tenant, name), {}).values()]

    async def forget(self, tenant: str, name: str, process: str) -> None:
        self._check_here()
        self._told.get((tenant, name), {}).pop(process, None)

    async def entries(self) -> Sequence[FiguresEntry]:
        self._check_here()
        return [entry for by_process in self._told.values() for entry in by_process.values()]

    async def put(self, tenant: str, name: str, figures: EndpointFigures, /, *, revision: int) -> None:
        there = self._told.get((tenant, name), {}).get(figures.process)
        if revision != (there.revision if there is not None else 0):
            raise Conflict(f"figures of endpoint {name} were changed by another")
        await self.tell(tenant, name, figures)

    def _check_here(self) -> None:
        if self.away:
            raise Unavailable("the book is away")


class FakeFuser:
    """A `Fuser` that writes what the fake loader takes for a model; while `refuses`, it writes nothing and says so."""

    def __init__(self) -> None:
        self.refuses = ""
        self.recipes: list[Recipe] = []

    async def fuse(
        self,
        recipe: Recipe,
        files: Mapping[tuple[str, str], Path],
        target: Path,
        *,
        rows_alike: bool,  # noqa: ARG002 - the fake models' rows always are
    ) -> None:
        if self.refuses:
            raise Refused(self.refuses)
        self.recipes.append(recipe)
        contents = [await asyncio.to_thread(path.read_bytes) for path in files.values()]
        await asyncio.to_thread(target.write_bytes, b"model of " + b" and ".join(contents))


class FakeFileNotes:
    """A `FileNotes` in memory."""

    def __init__(self) -> None:
        self.noted: dict[tuple[str, str], FileEntry] = {}
        self._revision = 0

    async def get(self, tenant: str, digest: str) -> FileEntry | None:
        return self.noted.get((tenant, digest))

    async def put(self, kept: KeptFile, *, revision: int) -> FileEntry:
        self._check(kept, revision)
        self._revision += 1
        self.noted[kept.tenant, kept.digest] = FileEntry(kept, self._revision)
        return self.noted[kept.tenant, kept.digest]

    async def drop(self, entry: FileEntry) -> None:
        self._check(entry.kept, entry.revision)
        del self.noted[entry.kept.tenant, entry.kept.digest]

    async def entries(self) -> Sequence[FileEntry]:
        return list(self.noted.values())

    def _check(self, kept: KeptFile, revision: int) -> None:
        current = self.noted.get((kept.tenant, kept.digest))
        if (current.revision if current else 0) != revision:
            raise Conflict(f"the file {kept.digest} was changed by another")


class FakeModelFiles:
    """A `ModelFiles` in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}

    async def store(self, tenant: str, file: str, source: Path) -> None:
        self.kept[tenant, file] = await asyncio.to_thread(source.read_bytes)

    async def exists(self, tenant: str, file: str) -> bool:
        return (tenant, file) in self.kept

    async def fetch(self, tenant: str, file: str, target: Path) -> None:
        if (tenant, file) not in self.kept:
            raise NotFound(f"the model file {file} is not kept any more; deploy the model anew")
        await asyncio.to_thread(target.write_bytes, self.kept[tenant, file])

    async def delete(self, tenant: str, file: str) -> None:
        self.kept.pop((tenant, file), None)


@dataclass(slots=True)
class FakeStop:
    """A `Stop` that nothing heeds but a test."""

    terminate: bool = False


class FakeRunner:
    """A `Runner` that doubles. It remembers how many rows ran together, and refuses rows that hold a NaN."""

    def __init__(self, traits: Traits | None = None) -> None:
        self.signature = DOUBLING
        self.traits = traits or Traits(joinable=True, steady=True, providers=("fake",), first_runs=((1, 1e-5),))
        self.batches: list[int] = []
        self.crew: float | None = None

    def crew_seconds(self) -> float | None:
        return self.crew

    def stop(self) -> FakeStop:
        return FakeStop()

    def compute(
        self,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        stop: Stop | None,  # noqa: ARG002 - it is done at once
    ) -> dict[str, Tensor]:
        self.batches.append(len(inputs["x"]))
        if np.isnan(inputs["x"]).any():
            raise Refused("the model cannot compute this: a NaN", field="inputs")
        return {name: np.multiply(inputs["x"], 2) for name in outputs}


class FakeModelLoader:
    """A `ModelLoader` that takes any file that begins with `model`."""

    async def load(self, path: Path) -> FakeRunner:
        if not (await asyncio.to_thread(path.read_bytes)).startswith(b"model"):
            raise Refused("is not an ONNX model: it does not begin as one", field="chunk")
        return FakeRunner()


class FakeSignatureChecker:
    """A `SignatureChecker` whose signatures read `KEY signed DIGEST`; it trusts `friend` and knows no other key."""

    def check(self, bundle: str, digest: str) -> str:
        key, _, signed = bundle.partition(" signed ")
        if signed != digest:
            raise Refused("does not fit the file", field="signature")
        return key if key == "friend" else ""


class FakeModelSigner:
    """A `ModelSigner` that is `friend`."""

    def sign(self, path: Path) -> str:
        return f"friend signed sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}"


class FakeAnnouncer:
    """An `Announcer` that remembers; while `away`, nobody can be told."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.away = False

    async def publish(self, event: Event) -> None:
        if self.away:
            raise Unavailable("publishing: NATS did not answer")
        if all(known.event_id != event.event_id for known in self.told):
            self.told.append(event)


class FakeReferences:
    """A `References` in memory; while `away`, it cannot be reached."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, int, str], bytes] = {}
        self.away = False

    async def get(self, record: ModelRecord, side: str) -> bytes | None:
        if self.away:
            raise Unavailable("reading a reference: NATS did not answer")
        return self.kept.get((record.tenant, record.name, record.version, side))

    async def keep(self, record: ModelRecord, side: str, sketch: bytes) -> bytes:
        if self.away:
            raise Unavailable("keeping a reference: NATS did not answer")
        return self.kept.setdefault((record.tenant, record.name, record.version, side), sketch)


class FakeDemandBook:
    """A `DemandBook` in a dictionary."""

    def __init__(self) -> None:
        self._reports: dict[str, Report] = {}
        self._history = NOTHING_YET
        self._revision = 0

    async def tell(self, report: Report) -> None:
        self._reports[report.gateway] = report

    async def reports(self, *, since: datetime) -> Sequence[Report]:
        self._reports = {key: report for key, report in self._reports.items() if report.at >= since}
        return list(self._reports.values())

    async def history(self) -> tuple[History, int]:
        return self._history, self._revision

    async def keep_history(self, history: History, *, revision: int) -> None:
        if revision != self._revision:
            raise Conflict("what was learned of demand was changed by another")
        self._history, self._revision = history, self._revision + 1


class FakeTokenizer:
    """A `Tokenizer` whose tokens are the bytes of a text."""

    size = 256

    def tokens(self, text: str, *, special: bool = True) -> Sequence[int]:
        return [*text.encode(), 0] if special else list(text.encode())

    def text(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).replace(b"\0", b"").decode(errors="replace")

    def spelling(self, after: Sequence[int] = ()) -> "FakeSpelling":
        spelling = FakeSpelling()
        for token in after:
            spelling.add(token)
        return spelling


class FakeSpelling:
    """A `Spelling` of bytes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        return self._decoder.decode(bytes([token])) if token else ""


class FakeDecoder:
    """A `Decoder` that goes on with one answer and ends it by token 0; what it is given is kept. It waits while `goes_on` is not
    set, and breaks off where the next token is among `breaks_at`; `likely` is the logit of that token."""

    def __init__(self, answer: str, *, context_tokens_max: int = 64) -> None:
        self.context_tokens_max = context_tokens_max
        self.end_tokens = frozenset({0})
        self.answer = [*answer.encode(), 0]
        self.read: list[list[int]] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.breaks_at: frozenset[int] = frozenset()
        self.likely = 9.0
        self.crew: float | None = None

    def crew_seconds(self) -> float | None:
        return self.crew

    def begin(self, tokens_max: int) -> "FakeContinuation":
        assert tokens_max <= self.context_tokens_max
        return FakeContinuation(self)


class FakeContinuation:
    """A `Continuation` of a `FakeDecoder`."""

    def __init__(self, decoder: FakeDecoder) -> None:
        self._decoder = decoder
        self._read: list[int] = []
        self._stopped = False
        decoder.read.append(self._read)

    def feed(self, tokens: Sequence[int]) -> Tensor:
        self._decoder.goes_on.wait()
        if self._stopped:
            raise Unavailable("the run was stopped")
        answer, before = self._decoder.answer, self._read
        # What was read that is the answer's beginning was drawn; the rest is the prompt.
        before += tokens
        drawn = next(count for count in range(len(answer), -1, -1) if before[len(before) - count :] == answer[:count])
        if answer[drawn] in self._decoder.breaks_at:
            raise ValueError("the model broke off")
        logits = np.zeros(256, np.float32)
        logits[answer[drawn]] = self._decoder.likely
        return logits

    def stop(self) -> None:
        self._stopped = True
        self._decoder.goes_on.set()


class FakeLanguageModel:
    """A `LanguageModel` of fakes; a conversation is the contents of its messages."""

    def __init__(self, decoder: FakeDecoder) -> None:
        self.tokenizer = FakeTokenizer()
        self.decoder = decoder

    def conversation(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        return self.tokenizer.tokens("".join(str(message["content"]) for message in messages), special=False)


class FakeAnnouncements:
    """`Announcements` for all who share it; while `away`, nobody can be told."""

    def __init__(self) -> None:
        self._hearers: list[Callable[[GatewayAnnounced], None]] = []
        self.away = False

    async def tell(self, announced: GatewayAnnounced) -> None:
        if self.away:
            raise Unavailable("telling other gateways of this one: NATS is away")
        for hear in list(self._hearers):
            hear(announced)

    @asynccontextmanager
    async def heard(self, hear: Callable[[GatewayAnnounced], None]) -> AsyncIterator[None]:
        self._hearers.append(hear)
        try:
            yield
        finally:
            self._hearers.remove(hear)


Answer = Callable[[Errand], Awaitable[InferenceAnswer]]
"""Answers as a gateway does, by raising its errors too."""


class FakePeerLinks:
    """`PeerLinks` to who is in `there` by address; nobody answers for others."""

    def __init__(self) -> None:
        self.there: dict[str, Answer] = {}
        self.opened: list[str] = []

    def open(self, address: str, *, tls: bool) -> "FakePeerLink":  # noqa: ARG002 - nothing is sent over a network
        self.opened.append(address)
        return FakePeerLink(self.there, address)


class FakePeerLink:
    """A `PeerLink` to one address."""

    def __init__(self, there: Mapping[str, Answer], address: str) -> None:
        self._there = there
        self._address = address
        self._closed = False

    async def ask(self, errand: Errand) -> InferenceAnswer:
        answer = self._there.get(self._address)
        if answer is None or self._closed:
            raise PeerAway("nobody answers")
        try:
            async with asyncio.timeout(errand.timeout_seconds):
                return await answer(errand)
        except NotFound as error:
            raise Busy(str(error), retry_after_seconds=0.0) from error
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed before another gateway had answered") from error

    def close(self) -> None:
        self._closed = True
