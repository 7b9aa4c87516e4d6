"""KServe's clients go through what their documentation offers, against a real gateway process. kserve brings half a gigabyte of
its own server, so it has an environment of its own: `make test-clients`, where `ERGONAUT_KSERVE_PYTHON` names its Python."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from ergonaut_common.testing import key_ring_file
from services.gateway.tests.onnx_models import doubling, identity
from services.gateway.tests.test_process import Site, deploy, healthy, made_site

PYTHON = os.environ.get("ERGONAUT_KSERVE_PYTHON", "")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PYTHON, reason="kserve is in an environment of its own; make test-clients"),
]


@pytest.fixture
async def site(nats_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    tenant = f"t-{uuid4().hex[:8]}"
    made = made_site(nats_url, tmp_path / "one", key_ring_file(tmp_path, (tenant,)), tenant)
    with made.process.running():
        async with healthy(made) as stub:
            await deploy(stub, made, doubling())
            await deploy(stub, made, identity("BYTES"), "texts")
        yield made


async def test_both_clients_find_what_their_documentation_says(site: Site) -> None:
    script = Path(__file__).with_name("kserve_session.py")
    addresses = [site.http_address, site.process.address]
    command = [PYTHON, str(script), *addresses, site.process.keys[site.tenant]]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in site.process.log.read_text()
