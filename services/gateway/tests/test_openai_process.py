"""The OpenAI-compatible door of a real gateway process, by its setting."""

import json
from pathlib import Path

import openai

from ergonaut_common.testing import key_ring_file

from .openai_upstream import fake_models
from .test_process import healthy, made_site


async def test_a_process_serves_the_routes_that_its_setting_names(nats_url: str, tmp_path: Path) -> None:
    ring = key_ring_file(tmp_path, ("default",))
    site = made_site(nats_url, tmp_path / "one", ring, "default")
    routes = tmp_path / "routes.json"
    site.process.environment["ERGONAUT_GATEWAY_OPENAI_ROUTES"] = str(routes)
    async with fake_models() as upstream:
        kind = {"kind": "ollama", "url": f"http://127.0.0.1:{upstream.port}"}
        routes.write_text(json.dumps({"models": {"small": {"upstreams": [kind]}}}))
        with site.process.running():
            async with healthy(site):
                address = f"http://{site.http_address}/v1"
                async with openai.AsyncOpenAI(api_key=ring[1]["default"], base_url=address) as client:
                    answer = await client.chat.completions.create(model="small", messages=[])
    assert answer.choices[0].message.content == "watts"
    assert upstream.asked[0]["path"] == "/v1/chat/completions"
