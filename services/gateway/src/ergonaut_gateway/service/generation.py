"""Answers of language models that run here, token by token. Each model has a thread of its own, which loads it when it is first
asked, and goes on with some answers in turn, so that a short one need not wait for a long one. Called by the OpenAI door."""

import asyncio
import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ergonaut.errors import ErgonautError, Refused, Unavailable
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.inference import Busy
from ergonaut_gateway.domain.text.sampling import Sampler, Sampling
from ergonaut_gateway.domain.text.stops import Stops
from ergonaut_gateway.ports import Continuation, LanguageModel, Spelling

PROMPT_PART_TOKENS = 128
"""Tokens of a prompt that are read in one run: between two runs others have their turn and who went away is noticed, and the
logits of so many tokens of a vocabulary of 150,000 take 77 MB, which those of a whole prompt would a hundredfold."""

BUSY_SECONDS_FIRST = 1.0
"""When to come back where no answer has shown yet how long one takes."""

REMEMBERED = 0.8
"""How much an answer's time counts against the next one's; the last five or so are remembered."""

LET_GO_SECONDS = 2.0
"""How long who leaves waits to be told what was used: a run that is stopped ends in milliseconds, a model that loads may not."""

log = get_logger(__name__)


class TooLong(Refused):
    """The prompt, or the prompt and the answer that is wanted, has more tokens than the model's context."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a model does at once."""

    at_once: int = 2
    """Answers that are gone on with in turn; each keeps keys and values of its whole context."""
    waiting: int = 16
    threads: int = 1
    """Of the CPU, that one run may use."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to answer, and how."""

    prompt: Callable[[LanguageModel], Sequence[int]]
    """Gives the prompt's tokens. Raises Refused. Called in the model's thread, since long texts take a while."""
    tokens_max: int | None = None
    """Of the answer; None is whatever the context has room for."""
    sampling: Sampling = field(default_factory=Sampling)
    stops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer is whole: why it ended (`stop` or `length`), its tokens, and the CPU time that it took."""

    reason: str
    tokens_in: int
    tokens_out: int
    cpu_seconds: float


Heard = str | Ended | BaseException
"""A piece of an answer, its end, or why there is none."""


class Answering:
    """One answer as its reader has it."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.given_up = False
        self.began_seconds = time.monotonic()
        self.continuation: Continuation | None = None
        self.by_now = Ended("", 0, 0, 0.0)
        """What it took so far, for an answer that is broken off."""
        self.is_whole = False
        self.begun = False
        """Whether the model's thread has it, until it says that it is over."""
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Heard] = asyncio.Queue()
        """At most one a token of the context, some bytes each."""

    async def next(self) -> str | Ended:
        """The next piece, or the end. Raises what keeps the answer from being whole."""
        heard = await self._pieces.get()
        if isinstance(heard, BaseException):
            raise heard
        self.is_whole = isinstance(heard, Ended)
        return heard

    def cancel(self) -> None:
        """Want no more of it; the run is stopped. Does nothing when it is over."""
        self.given_up = True
        if (continuation := self.continuation) is not None:
            continuation.stop()

    async def let_go(self) -> Ended:
        """Want no more of it; gives what it took, also in the step that was at work."""
        self.cancel()
        if self.begun and not self.is_whole:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LET_GO_SECONDS):
                    await self._over.wait()
        return self.by_now

    def tell(self, heard: Heard) -> None:
        """Tell the reader, from any thread."""
        self._soon(lambda: self._pieces.put_nowait(heard))

    def end(self) -> None:
        """Say that nothing is done for it any more, from any thread."""
        self._soon(self._over.set)

    def _soon(self, act: Callable[[], None]) -> None:
        # The loop may have ended meanwhile, and nobody waits then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act)


class Generation:
    """Answers by one model."""

    def __init__(self, name: str, load: Callable[[], LanguageModel], bounds: Bounds) -> None:
        self._name = name
        self._load = load
        self._bounds = bounds
        self._waiting: deque[Answering] = deque()
        self._active: list[_Active] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._model: LanguageModel | None = None
        self._closed = False
        self._answer_seconds = BUSY_SECONDS_FIRST
        self._cpu_seconds = 0.0
        self._running_since: float | None = None

    def submit(self, wanted: Wanted) -> Answering:
        """Begin to answer, on the event loop. Raises Busy where too many wait, Unavailable after the close."""
        answering = Answering(wanted)
        with self._changed:
            if self._closed:
                raise Unavailable("the gateway is stopping; ask again")
            self._waiting = deque(each for each in self._waiting if not each.given_up)
            ahead = len(self._waiting) + len(self._active)
            if ahead >= self._bounds.at_once + self._bounds.waiting:
                seconds = self._answer_seconds * max(1.0, ahead / self._bounds.at_once - 1.0)
                raise Busy(f"{ahead} requests wait for {self._name} already", retry_after_seconds=seconds)
            self._waiting.append(answering)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"text {self._name}"[:15], daemon=True)
                self._thread.start()
        return answering

    @property
    def cpu_seconds(self) -> float:
        """CPU time so far, that of the run at work included; an estimate while one is."""
        since = self._running_since
        return self._cpu_seconds + (0.0 if since is None else (time.monotonic() - since) * self._bounds.threads)

    def close(self) -> None:
        """Answer whatever is left with Unavailable and end the thread, which a run that is at work ends by."""
        with self._changed:
            self._closed = True
            for answering in (*self._waiting, *(active.answering for active in self._active)):
                answering.tell(Unavailable("the gateway stopped before the answer was there; ask again"))
                answering.cancel()
            self._changed.notify()

    async def closed(self, *, within_seconds: float) -> None:
        """Wait until the thread has ended, but not longer than this."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, within_seconds)

    def _work(self) -> None:
        """All that the thread does."""
        while self._take():
            for active in list(self._active):
                if not self._goes_on(active):
                    with self._changed:
                        self._active.remove(active)
                    active.answering.end()
        for active in self._active:
            active.answering.end()

    def _take(self) -> bool:
        """Begin with those that waited, as many as there is room for; wait where there is nothing to do. False at the end."""
        with self._changed:
            while not (self._closed or self._active or self._waiting):
                self._changed.wait()
            if self._closed:
                return False
            room = self._bounds.at_once - len(self._active)
            taken = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            self._active += [_Active(answering) for answering in taken]
        return True

    def _goes_on(self, active: "_Active") -> bool:
        """Whether an answer is to be gone on with, after one step of it."""
        answering = active.answering
        if answering.given_up:
            return False
        try:
            ended = self._stepped(active, self._loaded())
        except ErgonautError as error:
            answering.tell(error)
            return False
        except Exception as error:
            # Whatever it is, it is of this answer; the thread serves the others on.
            log.exception("answer broken off", model=self._name)
            answering.tell(Unavailable(f"{self._name} broke off with {type(error).__name__}; the log tells more"))
            return False
        if ended is None:
            return True
        self._answer_seconds += (1 - REMEMBERED) * (time.monotonic() - answering.began_seconds - self._answer_seconds)
        answering.tell(Ended(ended, active.tokens_in, active.tokens_out, active.cpu_seconds))
        return False

    def _stepped(self, active: "_Active", model: LanguageModel) -> str | None:
        """Why an answer ended with this step, if it did; its CPU time is counted. Loading is not in it, which is nobody's."""
        begun = self._clock(model)
        self._running_since = time.monotonic()
        try:
            return active.step(model)
        finally:
            seconds = self._clock(model) - begun
            if self._has_unknown_threads(model):
                # The whole process's, but no more than so many threads can have had.
                seconds = min(seconds, (time.monotonic() - self._running_since) * self._bounds.threads)
            active.cpu_seconds += seconds
            active.answering.by_now = Ended("", active.tokens_in, active.tokens_out, active.cpu_seconds)
            self._cpu_seconds += seconds
            self._running_since = None

    def _loaded(self) -> LanguageModel:
        if self._model is None:
            try:
                self._model = self._load()
            except ErgonautError as error:
                # The file is at fault and no caller; the next one tries again.
                raise Unavailable(f"{self._name} could not be loaded: {error}") from error
        return self._model

    def _has_unknown_threads(self, model: LanguageModel) -> bool:
        return self._bounds.threads > 1 and model.decoder.crew_seconds() is None

    def _clock(self, model: LanguageModel) -> float:
        """CPU time of all that makes tokens."""
        if self._has_unknown_threads(model):
            return time.process_time()
        return time.thread_time() + (model.decoder.crew_seconds() or 0.0)


class _Active:
    """An answer that is being made, in the model's thread."""

    def __init__(self, answering: Answering) -> None:
        wanted = answering.wanted
        self.answering = answering
        answering.begun = True
        self.tokens_in = self.tokens_out = 0
        self.cpu_seconds = 0.0
        self._unread: Sequence[int] = ()
        self._tokens_max = 0
        self._sampler = Sampler(wanted.sampling, secrets.randbits(64))
        self._stops = Stops(wanted.stops)
        self._spelling: Spelling | None = None

    def step(self, model: LanguageModel) -> str | None:
        """Read a part of the prompt, or make one token; why the answer ended, where it did. Raises Refused, Unavailable."""
        continuation, spelling = self.answering.continuation, self._spelling
        if continuation is None or spelling is None:
            self._begin(model)
            continuation = model.decoder.begin(self.tokens_in + self._tokens_max)
            spelling = model.tokenizer.spelling(self._unread)
            self.answering.continuation, self._spelling = continuation, spelling
            if self.answering.given_up:
                raise Unavailable("the caller wants no answer any more")
        part, self._unread = self._unread[:PROMPT_PART_TOKENS], self._unread[PROMPT_PART_TOKENS:]
        logits = continuation.feed(part)
        if self._unread:
            return None
        if not np.isfinite(logits.max()):
            raise Unavailable("the model gave no numbers")
        token = self._sampler.draw(logits)
        self.tokens_out += 1
        if token in model.decoder.end_tokens:
            return self._ended("stop")
        self._told(self._stops.passed(spelling.add(token)))
        if self._stops.met:
            return "stop"
        if self.tokens_out >= self._tokens_max:
            return self._ended("length")
        self._unread = (token,)
        return None

    def _begin(self, model: LanguageModel) -> None:
        wanted, context = self.answering.wanted, model.decoder.context_tokens_max
        prompt = wanted.prompt(model)
        if not prompt:
            raise Refused("has no tokens", field="prompt")
        room = context - len(prompt)
        if room < max(wanted.tokens_max or 1, 1):
            more = f" and {wanted.tokens_max} for the answer" if wanted.tokens_max else ""
            raise TooLong(f"the model's context is {context} tokens; the prompt has {len(prompt)}{more}")
        self._unread, self.tokens_in = prompt, len(prompt)
        self._tokens_max = room if wanted.tokens_max is None else wanted.tokens_max

    def _ended(self, reason: str) -> str:
        self._told(self._stops.rest())
        return reason

    def _told(self, text: str) -> None:
        if text:
            self.answering.tell(text)
