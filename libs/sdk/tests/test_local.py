"""The supervisor and what it needs, on small programs of the test's own."""

import asyncio
import fcntl
import json
import socket
import stat
import sys
import threading
from pathlib import Path

import psutil
import pytest

from ergonaut.errors import Broken, NotFound, Refused
from ergonaut.keys import KeyRecord, Scope, digest
from ergonaut.local.control import is_running, up
from ergonaut.local.home import Home, write_json, write_whole
from ergonaut.local.parts import OTHER_PORTS, PORTS, Part, ensure_addresses, parts, service_environment
from ergonaut.local.secrets import ensure_secrets, write_nats_config
from ergonaut.local.state import read_state, stop_leftovers
from ergonaut.local.supervisor import EXIT_BAD_SETTINGS, Keeper, _stop_without_home, locked, move_aside

UNUSED_PORT = 32_100
"""Below those that systems give to whoever calls out, and above those that tests draw."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("ERGONAUT_NATS_URL", raising=False)
    monkeypatch.delenv("ERGONAUT_TEMPORAL_ADDRESS", raising=False)
    # Other tests start and stop the whole system on the preferred ports; these are nobody's.
    monkeypatch.setattr("ergonaut.local.parts.PORTS", {name: UNUSED_PORT + at for at, name in enumerate(PORTS)})
    monkeypatch.setattr("ergonaut.local.parts.FIRST_SERVICE_PORT", UNUSED_PORT + 100)
    monkeypatch.setattr("ergonaut.local.parts.FIRST_METRICS_PORT", UNUSED_PORT + 200)
    return Home(tmp_path)


def part(script: str) -> Part:
    return Part("test", (sys.executable, "-c", script), "127.0.0.1:1", "nats")


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_part_that_dies_is_started_again(home: Home) -> None:
    keeper = Keeper(part("import sys; sys.exit(3)"), home)
    keeping = asyncio.create_task(keeper.keep(asyncio.Event()))
    await until(lambda: keeper.restarts >= 2)
    await keeper.stop()
    await keeping
    assert keeper.state == "stopped"


async def test_a_part_with_bad_settings_waits_for_a_person(home: Home) -> None:
    keeper = Keeper(part(f"import sys; sys.exit({EXIT_BAD_SETTINGS})"), home)
    await asyncio.wait_for(keeper.keep(asyncio.Event()), 60)
    assert (keeper.state, keeper.restarts) == ("failed: bad settings", 0)


async def test_a_part_that_does_not_heed_a_stop_is_killed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergonaut.local.supervisor.STOP_PATIENCE_SECONDS", 0.2)
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    keeper = Keeper(part(script), home)
    keeping = asyncio.create_task(keeper.keep(asyncio.Event()))
    await until(lambda: home.log_of("test").exists() and "up" in home.log_of("test").read_text())
    await keeper.stop()
    await asyncio.wait_for(keeping, 60)
    assert keeper.told()["pid"] is None


async def test_a_stop_that_meets_a_part_being_started_ends_it_all_the_same(home: Home) -> None:
    keeper = Keeper(part("import time; time.sleep(60)"), home)
    keeping = asyncio.create_task(keeper.keep(asyncio.Event()))
    await asyncio.sleep(0)  # the keeper has begun to start its program, which is not there yet
    await keeper.stop()
    await asyncio.wait_for(keeping, 60)
    assert keeper.told()["pid"] is None


async def test_a_part_that_cannot_be_started_does_not_end_the_supervisor(home: Home) -> None:
    keeper = Keeper(Part("test", (str(home.path / "none"),), "127.0.0.1:1", "nats"), home)
    keeping = asyncio.create_task(keeper.keep(asyncio.Event()))
    await until(lambda: keeper.restarts >= 1)
    assert "No such file" in keeper.state
    await keeper.stop()
    await keeping


def test_a_log_that_has_grown_is_moved_aside_under_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergonaut.local.supervisor.LOG_BYTES_MAX", 3)
    log = tmp_path / "scheduler.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"much")
        move_aside(log)
        writer.write(b"new")
    move_aside(log)
    assert (log.read_bytes(), log.with_suffix(".log.1").read_bytes()) == (b"new", b"much")


def test_a_look_at_the_lock_does_not_turn_a_supervisor_away(home: Home) -> None:
    with home.supervisor_lock.open("w") as looking, home.supervisor_lock.open() as starting:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not locked(starting.fileno(), 0.0)
        threading.Timer(0.1, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        assert locked(starting.fileno(), 10.0)


def test_a_look_at_the_status_writes_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_secrets(home)
    addresses = ensure_addresses(home)
    monkeypatch.setattr("ergonaut.local.parts.SERVICES", ())
    before = sorted(home.path.rglob("*"))
    assert [one.name for one in parts(home, addresses)] == ["nats", "temporal"]
    assert sorted(home.path.rglob("*")) == before


async def test_what_a_killed_supervisor_left_running_is_ended(home: Home) -> None:
    left = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    started_at = psutil.Process(left.pid).create_time()
    # The second entry's process number was taken by another program since, so it must be left alone.
    written = {"one": {"pid": left.pid, "started_at": started_at}, "two": {"pid": other.pid, "started_at": 1.0}}
    write_json(home.state_file, {"supervisor": 1, "parts": written})
    await asyncio.to_thread(stop_leftovers, home)
    assert await asyncio.wait_for(left.wait(), 20) != 0
    assert other.returncode is None
    other.kill()
    await other.wait()


def test_addresses_stay_the_same_unless_a_port_was_taken(home: Home) -> None:
    first = ensure_addresses(home)
    assert ensure_addresses(home) == first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(first.temporal.rpartition(":")[2])))
        taken.listen()
        second = ensure_addresses(home)
    assert int(second.temporal.rpartition(":")[2]) in OTHER_PORTS
    assert second.nats == first.nats


def test_every_address_is_on_loopback_and_no_two_are_equal(home: Home) -> None:
    addresses = ensure_addresses(home)
    told = [addresses.nats, addresses.temporal, addresses.temporal_ui, addresses.gateway_http]
    told += [*addresses.services.values(), *addresses.metrics.values()]
    assert all(address.startswith("127.0.0.1:") for address in told)
    assert len(set(told)) == len(told)


def test_secrets_are_made_once_and_only_their_owner_reads_them(home: Home) -> None:
    ensure_secrets(home)
    before = {path.name: path.read_text() for path in home.secrets.iterdir()}
    ensure_secrets(home)
    assert {path.name: path.read_text() for path in home.secrets.iterdir()} == before
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in home.secrets.iterdir())
    assert home.client_key() not in (home.secrets / "keys.json").read_text()


def test_the_operators_key_is_another_than_the_clients_and_is_made_where_it_is_missing(home: Home) -> None:
    ensure_secrets(home)
    (home.secrets / "operator.key").unlink()
    ensure_secrets(home)
    records = json.loads((home.secrets / "keys.json").read_text())["keys"]
    known = {each.sha256: each for each in map(KeyRecord.model_validate, records)}
    operator, client = known[digest(home.operator_key())], known[digest(home.client_key())]
    assert (len(known), operator.tenant, operator.principal) == (3, "default", "local-operator")
    assert operator.scopes == {Scope.READ, Scope.WRITE, Scope.OPERATE}
    assert client.scopes == {Scope.READ, Scope.WRITE}


def test_no_secret_is_in_the_environment_or_arguments_of_a_service(home: Home) -> None:
    ensure_secrets(home)
    environment = service_environment(home, ensure_addresses(home))
    secrets = [path.read_text().strip() for path in home.secrets.iterdir() if path.suffix in (".key", ".password")]
    assert len(secrets) == 5
    assert not [value for value in environment.values() if value in secrets]


def test_jetstream_is_bounded_and_writes_through(home: Home) -> None:
    ensure_secrets(home)
    config = json.loads(write_nats_config(home, "127.0.0.1:4222").read_text())
    assert config["jetstream"]["sync_interval"] == "always"
    assert 0 < config["jetstream"]["max_file_store"] <= 32 * 1024**3


def test_an_address_in_the_environment_replaces_the_embedded_engine(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERGONAUT_NATS_URL", "nats://10.0.0.5:4222")
    addresses = ensure_addresses(home)
    assert addresses.nats == "10.0.0.5:4222"
    assert stat.S_IMODE(home.addresses_file.stat().st_mode) == 0o600
    assert "ERGONAUT_NATS_USER" not in service_environment(home, addresses)


def test_a_gateway_that_is_to_speak_tls_is_not_started_only_to_be_waited_for(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERGONAUT_GATEWAY_TLS_CERTIFICATE", "cert.pem")
    with pytest.raises(Refused, match=r"^ERGONAUT_GATEWAY_TLS_CERTIFICATE: is not for `ergonaut up`"):
        up(home, lambda _: None)
    assert not is_running(home)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"
    assert [item.name for item in tmp_path.iterdir()] == ["state.json"]


def test_a_home_where_nothing_was_started_says_what_to_do(home: Home) -> None:
    with pytest.raises(NotFound, match="ergonaut up"):
        home.addresses()
    assert not is_running(home)
    assert read_state(home) == {}


def test_a_damaged_address_file_says_what_to_do(home: Home) -> None:
    home.addresses_file.write_text("{}")
    with pytest.raises(Broken, match="damaged"):
        home.addresses()


async def test_a_supervisor_whose_folder_was_removed_asks_to_stop(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergonaut.local.supervisor.HOME_LOOK_SECONDS", 0.01)
    home.supervisor_lock.touch()
    stop = asyncio.Event()
    looking = asyncio.create_task(_stop_without_home(home, stop))
    await asyncio.sleep(0.1)
    assert not stop.is_set()
    home.supervisor_lock.unlink()
    await asyncio.wait_for(stop.wait(), 60)
    await looking
