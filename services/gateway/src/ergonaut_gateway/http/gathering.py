"""Requests that come within one turn of the event loop and are of one form: read in one go, run as one, answered together.

Most requests for predictions come again and again with the same head and the same form of body. Of such a head it is noted who
asks which model by which form; then a request is cut into its id and its numbers and put with its like, and nothing else is done
for it alone. Whatever is unlike, or has to wait, goes the way of all other requests, `singly`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Protocol

from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.inference import InferenceAnswer, InferenceRequest
from ergonaut_gateway.http.answers import answer_error
from ergonaut_gateway.http.exchange import OCTETS, Exchange
from ergonaut_gateway.protocol.forms import Form, form_of
from ergonaut_gateway.protocol.http_wire import BINARY, HEADER_LENGTH, USUAL, Terms, encode_raw_rows, encode_rows
from ergonaut_gateway.service import Predictions, Wish
from ergonaut_gateway.service.joint import Joint, Ran

SHEAVES_MAX = 1_024
"""Kinds of requests that are told apart; there are as many as models that are asked. Beyond it all are forgotten."""

LEARN_EVERY = 16
"""A caller whose requests are never of one form costs the learning of one in so many."""

_HEADER_LENGTH = HEADER_LENGTH.lower()

log = get_logger(__name__)


class Ways(Protocol):
    """How requests are answered of which each is by itself. What these raise is told to the caller."""

    def singly(self, exchange: Exchange) -> None:
        """Read a request and have it answered."""
        ...

    def submit(self, exchange: Exchange, wish: Wish, wanted: InferenceRequest, terms: Terms) -> None:
        """Have a request answered that was read."""
        ...

    def answer(self, exchange: Exchange, terms: Terms, answer: InferenceAnswer) -> None:
        """Answer a request."""
        ...


class _Sheaf:
    """The like requests of a turn."""

    __slots__ = ("began_seconds", "cuts", "exchanges", "form", "wish")

    def __init__(self, wish: Wish, form: Form) -> None:
        self.wish = wish
        self.form = form
        """One of those that mean the same."""
        self.began_seconds = 0.0
        self.exchanges: list[Exchange] = []
        self.cuts: list[tuple[bytes, bytes]] = []

    def taken(self) -> tuple[list[Exchange], list[tuple[bytes, bytes]]]:
        """What came, which is here no longer."""
        taken = self.exchanges, self.cuts
        self.exchanges, self.cuts = [], []
        return taken


class _Asker:
    """What is noted of a head."""

    __slots__ = ("form", "misses", "sheaf", "until_seconds")

    def __init__(self) -> None:
        self.form: Form | None = None
        self.sheaf: _Sheaf | None = None
        self.until_seconds = 0.0
        """Until when the caller's key need not be looked at."""
        self.misses = 0


class Gathering:
    """Puts like requests together, and has them answered as the engine's turn begins."""

    def __init__(self, predictions: Predictions, ways: Ways) -> None:
        self._predictions = predictions
        self._ways = ways
        self._sheaves: dict[tuple[object, ...], _Sheaf] = {}
        self._due: list[_Sheaf] = []
        self._rows_max = predictions.rows_at_once_max
        predictions.before_turn(self._answer_all)

    def answer(self, exchange: Exchange) -> None:
        """Have a request answered, with its like or by itself."""
        if not self._took(exchange):
            self._ways.singly(exchange)

    def _took(self, exchange: Exchange) -> bool:
        """Whether a request was put with its like."""
        request = exchange.request
        memo = request.memo
        asker = memo.noted if memo is not None else None
        if not isinstance(asker, _Asker) or (form := asker.form) is None or (sheaf := asker.sheaf) is None:
            return False
        now, body = monotonic(), request.body
        if now > asker.until_seconds or not isinstance(body, bytes) or (cut := form.cut(body)) is None:
            return False
        if not sheaf.exchanges:
            sheaf.began_seconds = now
            self._due.append(sheaf)
            self._predictions.expect_turn()
        sheaf.exchanges.append(exchange)
        sheaf.cuts.append(cut)
        return True

    def note(self, exchange: Exchange, wish: Wish, terms: Terms, until_seconds: float) -> None:
        """Take into account that a head came with a usual request, by a caller who is known until then."""
        memo, body = exchange.request.memo, exchange.request.body
        if memo is None or not isinstance(body, bytes):
            return
        asker = memo.noted
        if not isinstance(asker, _Asker):
            asker = memo.noted = _Asker()
        asker.until_seconds = until_seconds
        if asker.form is not None and asker.form.cut(body) is not None:
            # Looked for again, since all sheaves may have been forgotten meanwhile.
            asker.sheaf = self._sheaf(wish, asker.form)
            return
        asker.misses += 1
        length = exchange.request.headers.get(_HEADER_LENGTH)
        json_bytes = int(length) if length is not None else None
        if asker.misses % LEARN_EVERY == 1 and (form := form_of(body, json_bytes, terms)) is not None:
            asker.form, asker.sheaf = form, self._sheaf(wish, form)

    def _sheaf(self, wish: Wish, form: Form) -> _Sheaf:
        key = (wish.tenant, wish.model, wish.version, form.key)
        sheaf = self._sheaves.get(key)
        if sheaf is None:
            if len(self._sheaves) >= SHEAVES_MAX:
                self._sheaves.clear()
            sheaf = self._sheaves[key] = _Sheaf(wish, form)
        return sheaf

    def _answer_all(self) -> None:
        due, self._due = self._due, []
        models = [(sheaf.wish.tenant, sheaf.wish.model) for sheaf in due]
        for sheaf, model in zip(due, models, strict=True):
            exchanges, cuts = sheaf.taken()
            # Where a model is asked in several ways at once, only the engine can put all of that together.
            rows_max = self._rows_max if models.count(model) == 1 else 0
            try:
                for at in range(0, len(exchanges), rows_max or len(exchanges)):
                    end = at + (rows_max or len(exchanges))
                    self._answer(sheaf, exchanges[at:end], cuts[at:end], at_once=bool(rows_max))
            except Exception as error:
                for exchange in exchanges:
                    _told(exchange, error)

    def _answer(
        self, sheaf: _Sheaf, exchanges: list[Exchange], cuts: Sequence[tuple[bytes, bytes]], *, at_once: bool
    ) -> None:
        form, wish = sheaf.form, sheaf.wish
        rows = form.rows([numbers for _, numbers in cuts])
        if rows is None:
            # Some are wrong, or odd. Which ones, and what to tell their callers, shows when each is read with care.
            for exchange in exchanges:
                _tried(exchange, partial(self._ways.singly, exchange))
            return
        ids = [request_id for request_id, _ in cuts]
        joint = Joint(form.name, rows, sheaf.began_seconds)
        ran = self._predictions.at_once(wish, joint) if at_once else None
        if ran is not None:
            self._answer_ran(sheaf, exchanges, ran, ids)
            ran.watched(joint, ids)
            return
        for at, exchange in enumerate(exchanges):
            wanted = InferenceRequest(ids[at].decode(), {form.name: joint.rows[at : at + 1]})
            _tried(exchange, partial(self._ways.submit, exchange, wish, wanted, form.terms))

    def _answer_ran(self, sheaf: _Sheaf, exchanges: Sequence[Exchange], ran: Ran, ids: Sequence[bytes]) -> None:
        model, terms = sheaf.wish.model, sheaf.form.terms
        if terms is BINARY and (raws := encode_raw_rows(model, ran.version, ran.outputs, ids)) is not None:
            for exchange, (body, json_bytes) in zip(exchanges, raws, strict=True):
                headers = ((HEADER_LENGTH, str(json_bytes)),)
                try:
                    exchange.answer(200, body, OCTETS, headers)
                except Exception as error:
                    _told(exchange, error)
        elif terms is USUAL and (bodies := encode_rows(model, ran.version, ran.outputs, ids)) is not None:
            for exchange, body in zip(exchanges, bodies, strict=True):
                try:
                    exchange.answer(200, body)
                except Exception as error:
                    _told(exchange, error)
        else:
            for at, exchange in enumerate(exchanges):
                outputs = {name: tensor[at : at + 1] for name, tensor in ran.outputs.items()}
                self._ways.answer(exchange, terms, InferenceAnswer(ids[at].decode(), model, ran.version, outputs))


def _tried(exchange: Exchange, answer: Callable[[], None]) -> None:
    try:
        answer()
    except Exception as error:
        _told(exchange, error)


def _told(exchange: Exchange, error: Exception) -> None:
    """Tell a caller why there is no answer, as the router does; nobody else of the turn is to suffer from it."""
    if exchange.over:
        log.error("request failed after its answer began", path=exchange.request.path, exc_info=error)
    else:
        answer_error(exchange, error)
