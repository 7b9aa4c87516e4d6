"""Versions to and from MLflow's registry, at the wire, against a small server that answers as MLflow does."""

from collections.abc import Iterator

import pytest

from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut.integrations.mlflow_registry import Exported, open_registry
from ergonaut_common.testing import free_port

from .mlflow_server import Mlflow, mlflow_server

DIGITS = Exported(
    "digits",
    b"model a",
    "# digits",
    {"run_id": "run-1", "framework": "hand 1.0", "data_digest": ""},
    {"energy_joules": 12.5, "energy_joules_range": 0.5},
    ("champion",),
)


@pytest.fixture
def mlflow() -> Iterator[tuple[str, Mlflow]]:
    with mlflow_server() as server:
        yield server


async def test_what_was_stored_is_fetched_by_number_and_alias_with_what_its_run_used(
    mlflow: tuple[str, Mlflow],
) -> None:
    async with open_registry(mlflow[0]) as registry:
        assert await registry.store(DIGITS) == "1"
        assert await registry.store(DIGITS) == "2"
        for version in ("2", "champion"):
            found = await registry.fetch("digits", version)
            assert (found.name, found.version, found.content, found.run_id) == ("digits", "2", b"model a", "run-1")
            assert (found.lineage.energy_joules, found.lineage.energy_joules_range) == (12.5, 0.5)
            assert found.lineage.framework == "hand 1.0"
            assert not found.lineage.HasField("cost_usd")
    assert sorted(path.rpartition("/")[2] for path in mlflow[1].files) == 2 * ["MLmodel"] + 2 * ["README.md"] + 2 * [
        "model.onnx"
    ]
    assert {run["info"]["status"] for run in mlflow[1].runs.values()} == {"FINISHED"}


async def test_a_version_of_a_run_that_is_gone_is_fetched_and_what_it_used_is_not_told(
    mlflow: tuple[str, Mlflow],
) -> None:
    async with open_registry(mlflow[0]) as registry:
        await registry.store(DIGITS)
        mlflow[1].runs.clear()
        found = await registry.fetch("digits", "1")
    assert (found.content, found.lineage.HasField("energy_joules")) == (b"model a", False)


async def test_the_trackers_figures_become_the_lineage_with_the_doubt_that_it_told(mlflow: tuple[str, Mlflow]) -> None:
    async with open_registry(mlflow[0]) as registry:
        await registry.store(DIGITS)
        (run,) = mlflow[1].runs.values()
        run["data"]["metrics"] = [
            {"key": "ergonaut/carbon_grams_co2e", "value": 2.0},
            {"key": "ergonaut/range_fraction", "value": 0.25},
        ]
        lineage = (await registry.fetch("digits", "1")).lineage
    assert (lineage.carbon_grams_co2e, lineage.carbon_grams_co2e_range) == (2.0, 0.5)
    assert not lineage.HasField("energy_joules")


async def test_what_cannot_be_imported_is_told_in_one_sentence(mlflow: tuple[str, Mlflow]) -> None:
    uri, kept = mlflow
    async with open_registry(uri) as registry:
        with pytest.raises(NotFound, match=r"MLflow refused model-versions/get: .*version=7\) not found"):
            await registry.fetch("digits", "7")
        await registry.store(DIGITS)
        path = next(path for path in kept.files if path.endswith(".onnx"))
        kept.files[path.replace("model.onnx", "other.onnx")] = b""
        with pytest.raises(Refused, match="version 1 of digits holds 2 ONNX files, wanted is one; it holds MLmodel"):
            await registry.fetch("digits", "1")
        kept.versions["digits", "1"]["source"] = "s3://bucket/digits"
        with pytest.raises(Refused, match="the files are at s3://bucket/digits; let the MLflow server keep them"):
            await registry.fetch("digits", "1")


async def test_a_server_that_is_away_or_no_server_is_named() -> None:
    async with open_registry(f"http://127.0.0.1:{free_port()}") as registry:
        with pytest.raises(Unavailable, match="does not answer"):
            await registry.fetch("digits", "1")
    with pytest.raises(Refused, match=r"'sqlite:///mlflow\.db' is no address of an MLflow server"):
        async with open_registry("sqlite:///mlflow.db"):
            pass
