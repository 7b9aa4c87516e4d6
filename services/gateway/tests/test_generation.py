"""Answers of language models that run here: in turn, bounded, broken off when nobody wants them, and each token accounted for."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from ergonaut.errors import Refused, Unavailable
from ergonaut_gateway.domain.inference import Busy
from ergonaut_gateway.domain.text.sampling import Sampling
from ergonaut_gateway.fakes import FakeDecoder, FakeLanguageModel
from ergonaut_gateway.ports import LanguageModel
from ergonaut_gateway.service.counting import Board
from ergonaut_gateway.service.energy import Energy
from ergonaut_gateway.service.generation import (
    PROMPT_PART_TOKENS,
    Answering,
    Bounds,
    Ended,
    Generation,
    TooLong,
    Wanted,
)

from .conftest import Gateway

PATIENCE_SECONDS = 30.0


def wanted(prompt: str = "how much?", *, tokens_max: int | None = None, stops: Sequence[str] = ()) -> Wanted:
    def tokens(model: LanguageModel) -> Sequence[int]:
        return model.tokenizer.tokens(prompt, special=False)

    return Wanted(tokens, tokens_max, Sampling(temperature=0.0), tuple(stops))


async def whole(answering: Answering) -> tuple[str, Ended]:
    text = ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not isinstance(heard := await answering.next(), Ended):
            text += heard
    return text, heard


class Site:
    """A model of fakes that answers."""

    def __init__(self) -> None:
        self.decoder = FakeDecoder("7 joules and 2 grams")
        self.loads = 0
        self.trouble: Exception | None = None
        self.made: list[Generation] = []

    def generation(self, bounds: Bounds | None = None) -> Generation:
        generation = Generation("small", self.load, bounds or Bounds())
        self.made.append(generation)
        return generation

    def load(self) -> LanguageModel:
        self.loads += 1
        if self.trouble is not None:
            raise self.trouble
        return FakeLanguageModel(self.decoder)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    yield site
    site.decoder.goes_on.set()
    for generation in site.made:
        generation.close()
        await generation.closed(within_seconds=PATIENCE_SECONDS)


async def test_an_answer_comes_piece_by_piece_and_says_why_it_ended_and_what_it_took(site: Site) -> None:
    generation = site.generation()
    assert site.loads == 0, "a model takes memory once somebody asks"
    text, ended = await whole(generation.submit(wanted()))
    assert text == "7 joules and 2 grams"
    assert (ended.reason, ended.tokens_in, ended.tokens_out) == ("stop", 9, 21)
    assert 0.0 < ended.cpu_seconds <= generation.cpu_seconds
    await whole(generation.submit(wanted()))
    assert site.loads == 1


async def test_an_answer_is_as_long_as_is_wanted_and_as_the_context_has_room_for(site: Site) -> None:
    generation = site.generation()
    text, ended = await whole(generation.submit(wanted(tokens_max=5)))
    assert (text, ended.reason, ended.tokens_out) == ("7 jou", "length", 5)
    site.decoder.answer = [*b"for ever" * 20, 0]
    text, ended = await whole(generation.submit(wanted("1234567890")))
    assert (len(text), ended.reason) == (site.decoder.context_tokens_max - 10, "length")


async def test_words_that_end_an_answer_are_not_part_of_it(site: Site) -> None:
    text, ended = await whole(site.generation().submit(wanted(stops=["liters", "les and"])))
    assert (text, ended.reason) == ("7 jou", "stop")


async def test_a_long_prompt_is_read_in_parts(site: Site) -> None:
    site.decoder.context_tokens_max = 1_000
    _, ended = await whole(site.generation().submit(wanted("x" * (2 * PROMPT_PART_TOKENS + 1), tokens_max=1)))
    assert ended.tokens_in == 2 * PROMPT_PART_TOKENS + 1


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        (wanted("x" * 64), TooLong, "context is 64 tokens; the prompt has 64"),
        (wanted("x" * 60, tokens_max=5), TooLong, "the prompt has 60 and 5 for the answer"),
        (wanted(""), Refused, "has no tokens"),
    ],
)
async def test_what_does_not_fit_the_context_is_refused(
    site: Site, asked: Wanted, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        await whole(site.generation().submit(asked))


async def test_a_short_answer_does_not_wait_for_the_end_of_a_long_one(site: Site) -> None:
    site.decoder.context_tokens_max = 1_000
    site.decoder.answer = [*b"for ever " * 100, 0]
    generation = site.generation(Bounds(at_once=2))
    long = generation.submit(wanted())
    await long.next()
    _, ended = await whole(generation.submit(wanted(tokens_max=3)))
    assert ended.tokens_out == 3
    assert len(site.decoder.read[0]) < 900
    long.cancel()


async def test_who_finds_too_many_waiting_is_told_when_to_come_back(site: Site) -> None:
    site.decoder.goes_on.clear()
    generation = site.generation(Bounds(at_once=1, waiting=1))
    first, second = generation.submit(wanted()), generation.submit(wanted())
    with pytest.raises(Busy, match="2 requests wait for small already") as told:
        generation.submit(wanted())
    assert told.value.retry_after_seconds > 0
    second.cancel()
    third = generation.submit(wanted(tokens_max=2))
    site.decoder.goes_on.set()
    assert (await whole(first))[0] == "7 joules and 2 grams"
    assert (await whole(third))[0] == "7 "


async def test_an_answer_that_nobody_wants_any_more_is_broken_off_within_its_run(site: Site) -> None:
    generation = site.generation(Bounds(at_once=1))
    site.decoder.goes_on.clear()
    unwanted = generation.submit(wanted())
    await until(lambda: len(site.decoder.read) == 1)
    unwanted.cancel()
    site.decoder.goes_on.set()
    assert (await whole(generation.submit(wanted())))[0] == "7 joules and 2 grams"
    assert site.decoder.read[0] == [], "it never ran to its end"


async def test_one_answer_that_breaks_off_leaves_the_others_alone(site: Site) -> None:
    generation = site.generation()
    site.decoder.breaks_at = frozenset(b"2")
    with pytest.raises(Unavailable, match="broke off with ValueError"):
        await whole(generation.submit(wanted()))
    assert (await whole(generation.submit(wanted(tokens_max=4))))[0] == "7 jo"


async def test_a_model_that_gives_no_numbers_gives_no_answer(site: Site) -> None:
    site.decoder.likely = float("nan")
    with pytest.raises(Unavailable, match="gave no numbers"):
        await whole(site.generation().submit(wanted()))


async def test_a_model_that_cannot_be_loaded_is_no_fault_of_the_caller_and_is_tried_again(site: Site) -> None:
    generation = site.generation()
    site.trouble = Refused("the folder has no model.onnx")
    with pytest.raises(Unavailable, match=r"small could not be loaded: the folder has no model\.onnx"):
        await whole(generation.submit(wanted()))
    site.trouble = None
    assert (await whole(generation.submit(wanted())))[1].reason == "stop"


async def test_a_close_answers_all_that_is_left_and_ends_the_thread(site: Site) -> None:
    site.decoder.goes_on.clear()
    generation = site.generation(Bounds(at_once=1))
    left = [generation.submit(wanted()) for _ in range(3)]
    await until(lambda: len(site.decoder.read) == 1)
    generation.close()
    for answering in left:
        with pytest.raises(Unavailable, match="stopped"):
            await whole(answering)
    await generation.closed(within_seconds=PATIENCE_SECONDS)
    assert not [thread for thread in threading.enumerate() if thread.name == "text small"]
    with pytest.raises(Unavailable, match="is stopping"):
        generation.submit(wanted())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def test_threads_that_a_model_has_of_its_own_count_with_its_answer(site: Site) -> None:
    class Crewed(FakeDecoder):
        def crew_seconds(self) -> float:
            return 3.0 * sum(map(len, self.read))

    site.decoder = Crewed("7 joules")
    _, ended = await whole(site.generation(Bounds(threads=4)).submit(wanted("12345")))
    assert ended.cpu_seconds == pytest.approx(3.0 * (5 + 8), abs=1.0)


async def test_threads_of_which_nothing_is_known_count_as_no_more_than_they_can_have_had(site: Site) -> None:
    begun = time.monotonic()
    _, ended = await whole(site.generation(Bounds(threads=2)).submit(wanted()))
    assert 0.0 < ended.cpu_seconds <= 2 * (time.monotonic() - begun)


async def test_the_time_of_answers_is_theirs_and_no_request_s_for_a_prediction(gateway: Gateway) -> None:
    seconds = {"process": 1.0, "text": 0.0}
    energy = Energy(Board(), gateway.predictions._engine, gateway.clock, lambda: seconds["process"])
    energy.elsewhere = lambda: seconds["text"]
    await gateway.clock.advance(1.0)
    seconds.update(process=1.9, text=0.75)
    energy.look()
    assert energy.idle.cpu_seconds == pytest.approx(0.15)
