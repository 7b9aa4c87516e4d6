"""Whether the served models are still as good as they were: drift, labels that come late, and a log of requests. Predictions
calls `observe` after each batch and `answered` after each request; neither can fail, and both cost next to nothing when off."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.quality import Labelled, Truth
from ergonaut_gateway.domain.tensors import Tensor
from ergonaut_gateway.ports import Announcer, References
from ergonaut_gateway.service.drifts import Drifts, Watching
from ergonaut_gateway.service.labels import Keeping, Labels
from ergonaut_gateway.service.request_log import Logging, RequestLog
from ergonaut_gateway.service.telling import Telling

FAILURES_MAX = 1_000
"""Versions of which it is remembered that the log has told their failure."""

_LABELS = ("tenant", "model", "version")

log = get_logger(__name__)


class Quality(Collector):
    """Watches, joins and writes down; tells of what it finds."""

    def __init__(
        self,
        announcer: Announcer,
        references: References,
        clock: Clock,
        *,
        watching: Watching | None = None,
        keeping: Keeping | None = None,
        logging: Logging | None = None,
    ) -> None:
        self._clock = clock
        watching, keeping, logging = watching or Watching(), keeping or Keeping(), logging or Logging()
        self._check_seconds = watching.check_seconds
        self.drifts = Drifts(watching, references)
        self.labels = Labels(keeping)
        self.requests = RequestLog(logging, clock)
        self._observes = watching.rows_per_second > 0
        self._keeps = keeping.predictions_max > 0
        self._logs = logging.is_on
        self._telling = Telling(announcer, of="quality")
        self._failed: set[tuple[str, str, int]] = set()

    @property
    def is_on(self) -> bool:
        """Whether there is anything to do."""
        return self._observes or self._keeps or self._logs

    def observe(self, record: ModelRecord, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Take in a batch that was run. Never raises."""
        if not self._observes:
            return
        try:
            self.drifts.observe(record, inputs, outputs)
        except Exception as error:
            self._note(record, error)

    def answered(
        self,
        record: ModelRecord,
        request: InferenceRequest,
        outputs: Mapping[str, Tensor],
        seconds: float | None = None,
    ) -> None:
        """Take in a request that was answered. Never raises."""
        if not (self._keeps or self._logs):
            return
        try:
            if self._keeps:
                self.labels.answered(record, request, outputs)
            if self._logs:
                self.requests.answered(record, request, outputs, seconds)
        except Exception as error:
            self._note(record, error)

    def served(
        self,
        record: ModelRecord,
        request: InferenceRequest,
        outputs: Mapping[str, Tensor],
        seconds: float | None = None,
    ) -> None:
        """Take in a request that was answered, for whoever has no batches. Never raises."""
        if self._observes:
            self.observe(record, request.inputs, outputs)
        if self._keeps or self._logs:
            self.answered(record, request, outputs, seconds)

    async def label(self, tenant: str, model: str, labels: Mapping[str, Truth]) -> dict[Labelled, int]:
        """Say what was true; see `Labels.label`. Raises NotFound."""
        counts, told = self.labels.label(tenant, model, labels)
        await self._telling.tell(told)
        return dict(counts)

    async def check(self) -> None:
        """Compare what came since the last check, and tell. What cannot be told now is told later."""
        for found in await self.drifts.check():
            log.warning(
                "drift found", tenant=found.tenant, model=found.model, version=found.version, feature=found.feature
            )
            self._telling.waiting.append(found)
        await self.try_tell()

    async def keep_checking(self) -> None:
        """Check again and again, for ever."""
        while True:
            await self._clock.sleep(self._check_seconds)
            try:
                await self.check()
            except Exception:
                # To watch must not end what is watched; the next check finds the rows of this one gone.
                log.exception("quality not checked")

    async def try_tell(self) -> None:
        """Tell what waits, logged requests last."""
        await self._telling.tell()
        await self._telling.tell_from(self.requests.batches())

    def collect(self) -> Iterable[Metric]:
        """The figures at the moment of a scrape."""
        yield from self._drift_figures()
        quality = GaugeMetricFamily(
            "ergonaut_quality_score",
            "Accuracy, log_loss, brier, rmse or mae over the newest labelled rows.",
            labels=(*_LABELS, "metric"),
        )
        for (tenant, model, version), name, interval in self.labels.figures():
            quality.add_metric((tenant, model, str(version), name), interval.value)
        yield quality

    def _drift_figures(self) -> Iterator[Metric]:
        labels = (*_LABELS, "side")
        distance = GaugeMetricFamily(
            "ergonaut_drift_distance",
            "Distance of the window from the reference of the feature where it is largest.",
            labels=(*labels, "statistic"),
        )
        drifting = GaugeMetricFamily("ergonaut_drift_open", "Whether drift is going on.", labels=labels)
        rows = GaugeMetricFamily("ergonaut_drift_rows_compared", "Rows compared so far.", labels=labels)
        missed = GaugeMetricFamily(
            "ergonaut_drift_rows_unobserved", "Rows of bursts for which there was no room.", labels=labels
        )
        for (tenant, model, version), state in self.drifts.states():
            named = (tenant, model, str(version), state.side)
            drifting.add_metric(named, float(state.is_drifting))
            rows.add_metric(named, state.rows)
            missed.add_metric(named, state.rows_unobserved)
            if state.distances is not None:
                for statistic in ("psi", "ks", "jensen_shannon"):
                    distance.add_metric((*named, statistic), getattr(state.distances, statistic))
        yield from (distance, drifting, rows, missed)

    def _note(self, record: ModelRecord, error: Exception) -> None:
        """Log a failure once a version; whoever was answered must not suffer from it."""
        key = (record.tenant, record.name, record.version)
        if key not in self._failed and len(self._failed) < FAILURES_MAX:
            self._failed.add(key)
            log.error(
                "model not observed", tenant=record.tenant, model=record.name, version=record.version, error=repr(error)
            )
