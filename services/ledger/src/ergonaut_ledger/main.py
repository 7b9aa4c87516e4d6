"""The whole life of the ledger's process, in reading order."""

from contextlib import AsyncExitStack

from ergonaut_common.auth import KeyRing
from ergonaut_common.bus import Bus, open_bus, reading, watching_lag
from ergonaut_common.clock import SystemClock
from ergonaut_common.lifetimes import background, stop_requested
from ergonaut_common.observe import serving_metrics
from ergonaut_common.rpc import serving
from ergonaut_common.settings import PlatformSettings
from ergonaut_ledger.adapters.aging import ClickHouseAges
from ergonaut_ledger.adapters.analysis_books import ClickHouseAnalysisBooks
from ergonaut_ledger.adapters.announcer import BusAnnouncer
from ergonaut_ledger.adapters.budget_book import BUCKET, KeyValueBudgetBook
from ergonaut_ledger.adapters.budget_gauges import PrometheusBudgetGauges
from ergonaut_ledger.adapters.budget_sums import ClickHouseBudgetSums
from ergonaut_ledger.adapters.clickhouse import ClickHouseStore, open_store
from ergonaut_ledger.adapters.engine import Engine, embedded, open_engine, server
from ergonaut_ledger.adapters.exports import ClickHouseExportBooks
from ergonaut_ledger.adapters.model_books import ClickHouseModelBooks
from ergonaut_ledger.adapters.residual_mix import load_residual_mix
from ergonaut_ledger.adapters.rollups import ClickHouseRollUps, ClickHouseUsage
from ergonaut_ledger.adapters.statement_books import ClickHouseCertificateBook, ClickHouseStatementBooks
from ergonaut_ledger.listeners import AREAS, DURABLE, keeper
from ergonaut_ledger.rpc import (
    SERVICE_NAMES,
    analysis_door,
    budget_door,
    door,
    export_door,
    model_book_door,
    statement_door,
)
from ergonaut_ledger.service import Keeping, Reporting, Rolling, Using
from ergonaut_ledger.service.aging import Aging
from ergonaut_ledger.service.analysing import Analysing
from ergonaut_ledger.service.budget_rounds import BudgetRounds
from ergonaut_ledger.service.budgeting import Budgeting, BudgetWorld
from ergonaut_ledger.service.exporting import Exporting
from ergonaut_ledger.service.serving_models import ServingModels
from ergonaut_ledger.service.statements import Statements
from ergonaut_ledger.service.watching_anomalies import AnomalyWatching
from ergonaut_ledger.settings import Settings


async def run(platform: PlatformSettings) -> None:
    """Open the books, keep what is told, answer what is asked, until told to stop."""
    settings = Settings()
    folder, dsn = settings.folder(platform), settings.clickhouse_dsn.get_secret_value()
    connect = server(dsn, seconds=settings.insert_seconds_max) if dsn else embedded(folder)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving_metrics(settings.metrics_address))
        store = await stack.enter_async_context(
            open_store(
                connect,
                what="the ClickHouse server" if dsn else str(folder),
                insert_seconds=settings.insert_seconds_max,
                query_seconds=settings.query_seconds_max,
            )
        )
        # What takes long has a thread of its own, so that inserts and questions need not wait for it.
        slow = await stack.enter_async_context(open_engine(connect, what="the ledger once more, for long work"))
        aging = await _aging(slow, settings)
        await stack.enter_async_context(background(aging.run()))
        rollups = ClickHouseRollUps(slow, seconds=settings.roll_seconds_max)
        await stack.enter_async_context(background(Rolling(rollups, SystemClock()).run()))
        bus = await stack.enter_async_context(open_bus(platform, "ledger"))
        budgeting = Budgeting(await _budget_world(bus, store, settings))
        budget_rounds = BudgetRounds(budgeting, SystemClock())
        await budget_rounds.start()
        await stack.enter_async_context(background(budget_rounds.run()))
        await stack.enter_async_context(background(budget_rounds.look()))
        models = _serving_models(store, settings)
        await stack.enter_async_context(background(models.keep_letting_go()))
        books = ClickHouseAnalysisBooks(store.engine, query_seconds=settings.query_seconds_max)
        await stack.enter_async_context(background(AnomalyWatching(books, BusAnnouncer(bus), SystemClock()).watch()))
        await stack.enter_async_context(
            reading(
                bus,
                AREAS,
                DURABLE,
                keeper(Keeping(store, [budget_rounds], aging.not_before)),
                batch_max=settings.batch_max,
                wait_seconds=settings.batch_wait_seconds,
            )
        )
        await stack.enter_async_context(background(watching_lag(bus, AREAS, DURABLE)))
        await stack.enter_async_context(
            serving(
                settings.grpc_address,
                service="ledger",
                add=door(
                    Reporting(store),
                    Using(ClickHouseUsage(store.engine, query_seconds=settings.query_seconds_max)),
                    budget_door(budgeting),
                    analysis_door(Analysing(store, books, SystemClock(), models.books)),
                    statement_door(_statements(store, settings)),
                    model_book_door(models),
                    export_door(Exporting(ClickHouseExportBooks(slow, seconds=settings.roll_seconds_max))),
                ),
                keys=KeyRing.load(platform.keys_file),
                names=SERVICE_NAMES,
            )
        )
        await stop_requested()


async def _aging(engine: Engine, settings: Settings) -> Aging:
    ages = ClickHouseAges(engine, seconds=settings.roll_seconds_max)
    aging = Aging(ages, SystemClock(), samples_days=settings.samples_days, minutes_days=settings.minutes_days)
    await aging.start()
    return aging


async def _budget_world(bus: Bus, store: ClickHouseStore, settings: Settings) -> BudgetWorld:
    await bus.ensure_streams("ledger")
    return BudgetWorld(
        book=KeyValueBudgetBook(await bus.key_value(BUCKET)),
        sums=ClickHouseBudgetSums(store.engine, query_seconds=settings.query_seconds_max),
        store=store,
        announcer=BusAnnouncer(bus),
        gauges=PrometheusBudgetGauges(),
        clock=SystemClock(),
    )


def _serving_models(store: ClickHouseStore, settings: Settings) -> ServingModels:
    books = ClickHouseModelBooks(store.engine, query_seconds=settings.query_seconds_max)
    return ServingModels(books, SystemClock(), requests_days=settings.requests_days)


def _statements(store: ClickHouseStore, settings: Settings) -> Statements:
    seconds = settings.query_seconds_max
    return Statements(
        ClickHouseStatementBooks(store.engine, query_seconds=seconds),
        ClickHouseCertificateBook(store.engine, insert_seconds=settings.insert_seconds_max, query_seconds=seconds),
        SystemClock(),
        load_residual_mix(settings.residual_mix) if settings.residual_mix else {},
    )
