"""What every book of pipelines promises, held by the fake and by the adapter on a real NATS; and messages that read as they were
written."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given, settings

from ergonaut.errors import Broken, Conflict, Refused
from ergonaut_common.bus import Bus, open_bus
from ergonaut_common.rpc import scope_needed
from ergonaut_common.settings import PlatformSettings
from ergonaut_gateway.adapters.pipelines import KvPipelineBook
from ergonaut_gateway.domain.pipelines.records import Fusion, PipelineRecord, Revision, Use
from ergonaut_gateway.domain.pipelines.spec import Condition, Op, Over, Pipeline, Take
from ergonaut_gateway.fakes import FakePipelineBook
from ergonaut_gateway.ports import PipelineBook
from ergonaut_gateway.protocol.pipeline_wire import pipeline_of, told_pipeline, told_served

from .pipeline_forms import SIGNATURES, hand_on, node, pipeline, spec, step, to
from .test_pipeline_graphs import pipelines

SURE = Condition("probabilities", op=Op.IN, values=(0.25, 1, 2**60), take=Take.ARGMAX, over=Over.ANY)
WHOLE = pipeline(
    node("sequence", step("classify", version="1", is_soft=True, outputs={"label": "x"}), to("choose")),
    node(
        "switch",
        hand_on("x", when=SURE),
        hand_on("x", name="flag", when=Condition(parameter="trial", values=(True,))),
        hand_on("x", name="text", when=Condition(parameter="user", op=Op.NE, values=("ann",))),
        step("other"),
        name="choose",
    ),
    inputs=(spec("image", ""), spec("words", "BYTES", -1)),
)
AT = datetime(2026, 1, 1, 12, 30, 0, 250, tzinfo=UTC)
RECORD = PipelineRecord(
    tenant="default",
    name="checked",
    now=Revision(2, WHOLE, "ann", AT, "why not"),
    signature=SIGNATURES["classify"],
    uses=(Use("classify", "1", SIGNATURES["classify"]),),
    fusions=(Fusion("", "main", "", "node choose is a switch"),),
    history=(Revision(1, WHOLE, "bob", AT),),
)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    async with open_bus(PlatformSettings(nats_url=nats_url), "test") as opened:
        yield opened


@pytest.fixture(params=["fake", "nats"])
async def book(request: pytest.FixtureRequest, bus: Bus) -> PipelineBook:
    if request.param == "fake":
        return FakePipelineBook()
    return KvPipelineBook(await bus.key_value(f"pipelines-{uuid4().hex}"))


async def test_a_record_is_kept_whole_and_replaced_only_by_who_knows_it(book: PipelineBook) -> None:
    assert await book.get("default", "checked") is None
    entry = await book.put(RECORD, revision=0)
    found = await book.get("default", "checked")
    assert found == entry
    assert await book.get("other", "checked") is None
    with pytest.raises(Conflict, match="pipeline checked was changed by another"):
        await book.put(RECORD, revision=0)
    newer = await book.put(RECORD, revision=entry.revision)
    assert newer.revision > entry.revision
    with pytest.raises(Conflict):
        await book.put(RECORD, revision=entry.revision)
    assert await book.entries() == [newer]


@pytest.mark.parametrize("name", ["*", ">", "a b", "..", ".", "", "é", "a.b", "x" * 9_000])
async def test_a_name_that_no_pipeline_can_have_names_none(book: PipelineBook, name: str) -> None:
    assert await book.get("default", name) is None


async def test_who_follows_sees_all_records_and_then_each_change(book: PipelineBook) -> None:
    first = await book.put(RECORD, revision=0)
    seen: list[int] = []
    came = asyncio.Event()

    async def follow() -> None:
        async for entry in book.changes(seconds=30):
            seen.append(entry.revision)
            came.set()

    following = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(30):
            await came.wait()
            came.clear()
            second = await book.put(RECORD, revision=first.revision)
            await came.wait()
    finally:
        following.cancel()
    assert seen == [first.revision, second.revision]


async def test_a_record_that_is_too_large_is_refused_and_the_one_before_stays(bus: Bus) -> None:
    book = KvPipelineBook(await bus.key_value(f"pipelines-{uuid4().hex}"))
    entry = await book.put(RECORD, revision=0)
    large = replace(RECORD, uses=tuple(Use("classify", f"{at}" * 1_000, SIGNATURES["classify"]) for at in range(1_000)))
    with pytest.raises(Refused, match="nodes: its record would have"):
        await book.put(large, revision=entry.revision)
    assert await book.get("default", "checked") == entry


async def test_a_damaged_record_keeps_no_other_away_and_is_told_to_who_asks_for_it(bus: Bus) -> None:
    bucket = await bus.key_value(f"pipelines-{uuid4().hex}")
    book = KvPipelineBook(bucket)
    entry = await book.put(RECORD, revision=0)
    await bucket.put("default.broken", b"{")
    assert await book.entries() == [entry]
    with pytest.raises(Broken, match=r"the record default.broken in the bucket pipelines cannot be read"):
        await book.get("default", "broken")


def test_a_message_reads_as_the_pipeline_that_was_written() -> None:
    assert pipeline_of(told_pipeline(WHOLE)) == WHOLE
    told = told_served(RECORD)
    assert (told.pipeline.revision, told.pipeline.changed_by, told.pipeline.because) == (2, "ann", "why not")
    assert [each.name for each in told.gives] == ["probabilities", "label"]


@settings(deadline=None)
@given(pipelines())
def test_any_pipeline_reads_as_it_was_written(drawn: Pipeline) -> None:
    assert pipeline_of(told_pipeline(drawn)) == drawn


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("kind", 0, "node main: its kind is not said; it is one of sequence, ensemble, splitter, switch"),
        ("kind", 99, "node main: its kind is 99; it is one of sequence"),
        ("combine", 99, "node main: its combine is 99; it is one of names, concat, mean, weighted_mean, vote"),
    ],
)
def test_what_a_message_does_not_say_is_refused(field: str, value: int, sentence: str) -> None:
    message = told_pipeline(WHOLE)
    setattr(message.nodes[0], field, value)
    with pytest.raises(Refused) as refused:
        pipeline_of(message)
    assert str(refused.value).startswith(sentence)


def test_who_may_only_look_may_check_and_get() -> None:
    service = "/ergonaut.api.inference.v1.PipelineService/"
    needed = {
        name: str(scope_needed(f"{service}{name}Pipeline")) for name in ("Apply", "Check", "Get", "List", "Remove")
    }
    assert needed == {"Apply": "write", "Check": "read", "Get": "read", "List": "read", "Remove": "write"}
