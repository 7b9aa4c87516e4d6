"""Whoever watches the use of budgets hears of each batch once it is safely kept."""

from ergonaut_ledger.fakes.rolled import FakeUseWatcher
from ergonaut_ledger.fakes.store import FakeStore
from ergonaut_ledger.service.keeping import Keeping

from .told import message, reading


async def test_a_watcher_hears_whose_samples_were_kept_repeats_included() -> None:
    watcher = FakeUseWatcher()
    keeping = Keeping(FakeStore(), [watcher])
    for sequence in (1, 2):
        await keeping.keep([message(reading("default", 1), sequence)])
    assert [{touched.tenant for touched in told} for told in watcher.told] == [{"default"}, {"default"}]
