"""schemathesis asks whatever the gateway's own OpenAPI documents allow, and what they do not, of a real gateway process."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from ergonaut_common.testing import key_ring_file
from services.gateway.tests.onnx_models import doubling, identity
from services.gateway.tests.openai_upstream import fake_models
from services.gateway.tests.test_people import HOSTILE, classifying, of_columns
from services.gateway.tests.test_process import Site, X, deploy, healthy, made_site

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

EXAMPLES = 12
"""For each operation, of what is allowed and of what is not; the same in each run."""

MODELS = {
    "doubling": doubling(),
    "columns": of_columns(),
    "named": classifying(["length", HOSTILE, "rows"], ["cat", HOSTILE, "emu"]),
    "texts": identity("BYTES"),
    "bytes": identity("UINT8"),
    "truths": identity("BOOL"),
}
CHANGING = ("load", "unload")
"""Operations that are asked of names as they come, which are none: a model that was unloaded could not be asked any more."""

UNASKED = [ignored_auth, positive_data_acceptance]
"""Whether keys are asked for is tested elsewhere, and would ask all twice. That data fills its shape no schema can say, so what
fits one may be refused; but for named fields, whose requests are looked at here."""

UNSAID = (" rows, ", "`int`, got `float`", "must be a whole number")
"""All that is refused though it fits: columns that differ in length, and 2.0 for 2, which to a schema are one number."""

PROMISED = [f"/v2/models/{model}/predict" for model in MODELS]


def is_extra(path: str) -> bool:
    """Whether a path is answered only where a setting says so."""
    return path.startswith(("/v1/", "/openai/")) or path.endswith(("/labels", "/quality"))


def made(nats_url: str, folder: Path) -> Site:
    tenant = f"t-{uuid4().hex[:8]}"
    return made_site(nats_url, folder / "one", key_ring_file(folder, (tenant,)), tenant)


@pytest.fixture(scope="module")
def site(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One gateway with all models for all who only ask."""
    plain = made(nats_url, tmp_path_factory.mktemp("site"))

    async def deploy_all() -> None:
        async with healthy(plain) as stub:
            for name, content in MODELS.items():
                await deploy(stub, plain, content, name)

    with plain.process.running():
        # On a loop of its own, since those of tests end with them.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, deploy_all()).result()
        yield plain


async def documents(site: Site, *paths: str) -> list[dict[str, Any]]:
    async with site.http as http:
        return [(await http.get(path)).raise_for_status().json() for path in paths]


def answers(site: Site, document: dict[str, Any], names: Mapping[str, str]) -> dict[int, int]:
    """Ask all that a document describes; how often each status was answered, none of which was other than it says."""
    seen: dict[int, int] = {}
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        operation = found.ok()
        is_of_model = "{model}" in operation.path and not operation.path.endswith(CHANGING)
        fixed = {"path_parameters": {name: names[name] for name in names if f"{{{name}}}" in operation.path}}
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and operation.method != "post":
                continue
            for given_names in ({}, fixed) if is_of_model else ({},):
                _ask(site, operation.as_strategy(generation_mode=mode, **given_names), seen)
    return seen


def _ask(site: Site, strategy: Any, seen: dict[int, int]) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def ask(case: Case) -> None:
        headers = {"authorization": f"Bearer {site.process.keys[site.tenant]}"}
        url = f"http://{site.http_address}"
        response = case.call_and_validate(url, headers=headers, excluded_checks=UNASKED)
        assert response.status_code < 500
        is_promised = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
        if is_promised and case.operation.path in PROMISED and response.status_code != 200:
            told = response.json()["error"]
            assert any(words in told for words in UNSAID), (case.body, told)
        seen[response.status_code] = seen.get(response.status_code, 0) + 1

    ask()


@pytest.mark.parametrize("model", MODELS)
async def test_a_models_document_is_kept_to_whatever_is_asked(site: Site, model: str) -> None:
    [document] = await documents(site, f"/v2/models/{model}/openapi.json")
    seen = await asyncio.to_thread(answers, site, document, {})
    assert min(seen[200], seen[400]) > EXAMPLES / 4, f"not much was asked: {seen}"
    assert "Traceback" not in site.process.log.read_text()


async def test_the_doors_document_is_kept_to_whatever_is_asked(site: Site) -> None:
    [document] = await documents(site, "/openapi.json")
    seen = await asyncio.to_thread(answers, site, document, {"model": "doubling", "version": "1"})
    assert min(seen[200], seen[404]) > EXAMPLES, f"not much was asked: {seen}"
    assert "Traceback" not in site.process.log.read_text()


async def test_doors_that_are_shut_are_not_described(site: Site) -> None:
    [document] = await documents(site, "/openapi.json")
    assert not [path for path in document["paths"] if is_extra(path)]


async def test_doors_that_a_setting_opens_are_described_and_kept_to(nats_url: str, tmp_path: Path) -> None:
    every = made(nats_url, tmp_path)
    routes = tmp_path / "routes.json"
    every.process.environment |= {
        "ERGONAUT_GATEWAY_LABELS_WAITING_MAX": "100",
        "ERGONAUT_GATEWAY_OPENAI_ROUTES": str(routes),
    }
    async with fake_models() as upstream:
        routes.write_text(
            json.dumps({"models": {"small": {"upstreams": [{"url": f"http://127.0.0.1:{upstream.port}/v1"}]}}})
        )
        with every.process.running():
            async with healthy(every) as stub, every.http as http:
                await deploy(stub, every, doubling(), "doubling")
                asked = {"id": "a", "inputs": [X]}
                (await http.post("/v2/models/doubling/infer", json=asked)).raise_for_status()
            [document] = await documents(every, "/openapi.json")
            paths = {path: told for path, told in document["paths"].items() if is_extra(path)}
            assert len(paths) == 2 * 5 + 2
            # It needs no key, so it names no models.
            for name in ("ChatRequest", "CompletionRequest", "EmbeddingRequest"):
                document["components"]["schemas"][name]["properties"]["model"] = {"enum": ["small"]}
            names = {"model": "doubling"}
            seen = await asyncio.to_thread(answers, every, document | {"paths": paths}, names)
    assert min(seen[200], seen[400], seen[404]) > EXAMPLES / 4, f"not much was asked: {seen}"
    assert "Traceback" not in every.process.log.read_text()
