"""Triton's four clients go through what their documentation offers, against a real gateway process."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from ergonaut_common.testing import key_ring_file
from services.gateway.tests.onnx_models import NUMPY_TO_ONNX, counting, doubling, identity
from services.gateway.tests.test_process import Site, deploy, healthy, made_site

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(nats_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    tenant = f"t-{uuid4().hex[:8]}"
    made = made_site(nats_url, tmp_path / "one", key_ring_file(tmp_path, (tenant,)), tenant)
    with made.process.running():
        async with healthy(made) as stub:
            await deploy(stub, made, doubling())
            await deploy(stub, made, counting(), "counting")
            for datatype in NUMPY_TO_ONNX:
                await deploy(stub, made, identity(datatype), f"identity-{datatype.lower()}")
        yield made


async def test_each_client_finds_what_its_documentation_says(site: Site) -> None:
    script = Path(__file__).with_name("triton_session.py")
    for client in ("http", "http_aio", "grpc", "grpc_aio"):
        # The HTTP port speaks gRPC too, and is the one that is tried less elsewhere.
        address = site.http_address if client != "grpc" else site.process.address
        command = [sys.executable, str(script), client, address, site.process.keys[site.tenant]]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{client}: {done.stderr[-4000:]}"
    assert "Traceback" not in site.process.log.read_text()
