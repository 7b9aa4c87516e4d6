"""A nats-server for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ergonaut_common.settings import PlatformSettings
from ergonaut_common.testing import nats_server


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformSettings]:
    with nats_server(tmp_path) as url:
        yield PlatformSettings(nats_url=url)
