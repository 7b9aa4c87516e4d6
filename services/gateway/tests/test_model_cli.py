"""`ergonaut models` as people and scripts meet it, against the gateway's real door."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from structlog.testing import capture_logs
from typer.testing import CliRunner

from ergonaut.cli import models as commands
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import serving
from ergonaut_common.testing import key_ring_file
from ergonaut_gateway.adapters.signatures import TrustedKeys
from ergonaut_gateway.domain.models import Lineage, Used
from ergonaut_gateway.domain.trust import SignaturePolicy
from ergonaut_gateway.rpc import NAMES, door
from ergonaut_gateway.service import Deployment

from .conftest import Gateways, chunks
from .mlflow_server import mlflow_server

app = typer.Typer()
commands.register(app)
Told = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
async def ergonaut(
    request: pytest.FixtureRequest,
    gateways: Gateways,
    keys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Told]:
    """Runs a command against a gateway that wants signatures, if not told otherwise; gives its exit code, stdout and stderr."""
    policy = getattr(request, "param", SignaturePolicy.REQUIRE)
    ring, texts = key_ring_file(tmp_path)
    gateway = gateways.another(checker=TrustedKeys.load([keys[1]]), policy=policy)
    add = door(gateway.models, gateway.catalogue, gateway.predictions)
    ring_of_keys = KeyRing.load(ring)
    # What the gateway logs in this process is not what a command prints.
    with capture_logs():
        async with serving("127.0.0.1:0", service="gateway", add=add, keys=ring_of_keys, names=NAMES) as server:
            monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path / "home"))
            monkeypatch.setenv("ERGONAUT_API_KEY", texts["default"])
            monkeypatch.setenv("ERGONAUT_GATEWAY_ADDRESS", f"127.0.0.1:{server.port}")
            monkeypatch.setenv("ERGONAUT_GATEWAY_HTTP_ADDRESS", "127.0.0.1:1")

            async def run(*arguments: str | Path) -> tuple[int, str, str]:
                done = await asyncio.to_thread(CliRunner().invoke, app, [str(each) for each in arguments])
                return done.exit_code, done.stdout, done.stderr

            yield run


async def test_a_model_is_signed_deployed_named_rested_and_told(
    ergonaut: Told, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model a")
    code, _, error = await ergonaut("deploy", file, "--name", "digits")
    assert code == 65
    assert "the file is not signed, and signature_policy is require; sign it: ergonaut models sign" in error
    for content in (b"model a", b"model b"):
        file.write_bytes(content)
        code, told, _ = await ergonaut("models", "sign", file, "--key", keys[0], "--json")
        assert (code, json.loads(told)["signature"]) == (0, f"{file}.sig")
        assert (await ergonaut("models", "verify", file, "--key", keys[1]))[0] == 0
        code, told, _ = await ergonaut("deploy", file, "--name", "digits", "--framework", "hand 1.0", "--json")
        assert (code, json.loads(told)["lineage"]["framework"]) == (0, "hand 1.0")
    code, told, _ = await ergonaut("models", "alias", "digits", "champion", "1", "--expected", "0")
    assert (code, told) == (0, "champion of digits is version 1\n")
    code, _, error = await ergonaut("models", "alias", "digits", "champion", "2", "--expected", "0")
    assert (code, "names version 1, and was expected to name nothing" in error) == (73, True)
    assert (await ergonaut("models", "unload", "digits", "2"))[0] == 0
    told = json.loads((await ergonaut("models", "versions", "digits", "--json"))[1])
    assert [(each["version"], each["state"], each["aliases"]) for each in told["versions"]] == [
        (1, "VERSION_STATE_READY", ["champion"]),
        (2, "VERSION_STATE_UNLOADED", []),
    ]
    assert "champion" in (await ergonaut("models", "versions", "digits"))[1]
    assert (await ergonaut("models", "load", "digits", "2", "--json"))[0] == 0
    (listed,) = json.loads((await ergonaut("models", "--json"))[1])
    assert (listed["name"], listed["version"]) == ("digits", 1)
    assert "# digits, version 1 (champion)" in (await ergonaut("models", "card", "digits"))[1]
    assert json.loads((await ergonaut("models", "card", "digits", "2", "--json"))[1])["version"] == 2
    copy = tmp_path / "copy.onnx"
    assert (await ergonaut("models", "download", "digits", "champion", "--to", copy))[0] == 0
    assert copy.read_bytes() == b"model a"
    assert (await ergonaut("models", "alias", "digits", "champion", "--remove"))[0] == 0
    assert (await ergonaut("remove", "digits", "--version", "1"))[0] == 0
    assert (await ergonaut("remove", "digits", "--json"))[0] == 0
    assert (await ergonaut("models", "versions", "digits"))[0] == 66


async def test_a_model_that_was_changed_after_it_was_signed_is_not_verified(
    ergonaut: Told, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"model a")
    await ergonaut("models", "sign", file, "--key", keys[0])
    file.write_bytes(b"model b")
    code, told, error = await ergonaut("models", "verify", file, "--key", keys[1])
    assert (code, told) == (65, "")
    assert "was changed" in error
    assert (await ergonaut("deploy", file, "--name", "digits"))[0] == 65


async def test_what_mlflow_has_is_served_only_as_far_as_the_policy_lets_it(ergonaut: Told, gateways: Gateways) -> None:
    # Unsigned, and there since before signatures were wanted.
    await gateways.another().deploy(b"model a", run_id="run-1")
    with mlflow_server() as (uri, _):
        code, told, _ = await ergonaut("models", "export-mlflow", "digits", "--uri", uri, "--json")
        assert (code, json.loads(told)) == (0, {"name": "digits", "version": "1"})
        code, _, error = await ergonaut("models", "import-mlflow", "digits", "1", "--uri", uri, "--as", "again")
        assert (code, "the file is not signed" in error) == (65, True)
        code, _, error = await ergonaut("models", "import-mlflow", "digits", "9", "--uri", uri)
        assert (code, "not found" in error) == (66, True)


@pytest.mark.parametrize("ergonaut", [SignaturePolicy.OFF], indirect=True)
async def test_a_version_goes_to_mlflow_and_comes_back(ergonaut: Told, gateways: Gateways) -> None:
    lineage = Lineage("run-1", Used(carbon_grams_co2e=0.5, carbon_grams_co2e_range=0.1), framework="hand 1.0")
    await gateways.another().models.deploy(Deployment("default", "digits", lineage), chunks(b"model a"))
    assert (await ergonaut("models", "alias", "digits", "champion", "1"))[0] == 0
    with mlflow_server() as (uri, _):
        code, told, _ = await ergonaut("models", "export-mlflow", "digits", "--uri", uri, "--as", "Digits of MLflow")
        assert (code, told) == (0, "digits is version 1 of Digits of MLflow in MLflow\n")
        arguments = ("import-mlflow", "Digits of MLflow", "champion", "--uri", uri, "--as", "again", "--json")
        code, told, _ = await ergonaut("models", *arguments)
    model = json.loads(told)
    assert (code, model["name"], model["run_id"]) == (0, "again", "run-1")
    assert (model["lineage"]["carbon_grams_co2e"], model["lineage"]["carbon_grams_co2e_range"]) == (0.5, 0.1)
    assert (model["lineage"]["framework"], "energy_joules" in model["lineage"]) == ("hand 1.0", False)


async def test_an_alias_wants_a_version_or_its_removal(ergonaut: Told) -> None:
    for arguments in (("digits", "champion"), ("digits", "champion", "1", "--remove")):
        code, _, error = await ergonaut("models", "alias", *arguments)
        assert (code, "say which version the alias names, or --remove, and not both" in error) == (65, True)


@pytest.mark.parametrize("name", typer.main.get_command(app).commands["models"].commands)  # type: ignore[attr-defined]
def test_every_command_has_help_with_an_example_and_speaks_json(name: str) -> None:
    command = typer.main.get_command(app).commands["models"].commands[name]  # type: ignore[attr-defined]
    assert f"ergonaut models {name}" in command.help.partition("Example: ")[2]
    assert any("--json" in parameter.opts for parameter in command.params)


async def test_a_version_that_should_be_ready_and_is_not_is_marked_and_it_is_told_why(
    ergonaut: Told, gateways: Gateways
) -> None:
    # By another gateway, of which the one that is asked has not heard yet.
    await gateways.another().deploy(b"model a")
    _, told, why = await ergonaut("models")
    assert ("digits" in told, why) == (True, "digits version 1: is not loaded yet\n")
    _, told, why = await ergonaut("models", "versions", "digits")
    assert ("ready (!)" in told, why) == (True, "digits version 1: is not loaded yet\n")
    (listed,) = json.loads((await ergonaut("models", "--json"))[1])
    assert listed["problem"] == "is not loaded yet"
