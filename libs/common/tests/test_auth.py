"""Keys: only digests are kept, scopes bound what they open, and an end is an end."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ergonaut.errors import Broken, NotAllowed
from ergonaut.keys import Scope, new_key
from ergonaut_common.auth import KeyRing
from ergonaut_common.rpc import scope_needed


def test_a_key_opens_with_its_tenant_and_scopes() -> None:
    key, record = new_key("default", "somebody", [Scope.READ])
    caller = KeyRing([record]).authenticate(f"Bearer {key}")
    assert (caller.tenant, caller.principal, caller.scopes) == ("default", "somebody", {Scope.READ})
    with pytest.raises(NotAllowed, match="no write scope"):
        caller.require(Scope.WRITE)


def test_a_record_does_not_hold_its_key() -> None:
    key, record = new_key("default", "somebody", [Scope.READ])
    assert key.split("_", 2)[2] not in record.model_dump_json()


def test_the_id_of_a_key_without_its_secret_opens_nothing() -> None:
    _, record = new_key("default", "somebody", [Scope.READ])
    with pytest.raises(NotAllowed, match="unknown"):
        KeyRing([record]).authenticate(f"Bearer ergo_{record.id}_guess")


def test_a_key_that_has_expired_opens_nothing() -> None:
    key, record = new_key("default", "somebody", [Scope.READ])
    ended = record.model_copy(update={"expires_at": datetime.now(UTC) - timedelta(seconds=1)})
    with pytest.raises(NotAllowed, match="expired"):
        KeyRing([ended]).authenticate(f"Bearer {key}")


@pytest.mark.parametrize("text", ["", "[]", '{"keys": [{"id": "a", "sha256": "hunter2"}]}', "{}"])
def test_a_damaged_key_file_is_named_and_not_repeated(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(Broken, match=r"keys\.json") as broken:
        KeyRing.load(path)
    assert "hunter2" not in str(broken.value)


def test_a_file_of_keys_is_read_and_no_file_lets_nobody_in(tmp_path: Path) -> None:
    key, record = new_key("default", "somebody", [Scope.READ])
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [record.model_dump(mode="json")]}))
    assert KeyRing.load(path).authenticate(f"Bearer {key}").tenant == "default"
    with pytest.raises(NotAllowed):
        KeyRing.load(None).authenticate(f"Bearer {key}")


@pytest.mark.parametrize(
    ("method", "scope"),
    [
        ("/ergonaut.api.pricing.v1.PricingService/ListOffers", Scope.READ),
        ("/ergonaut.api.scheduling.v1.SchedulingService/PlanJob", Scope.READ),
        ("/ergonaut.api.scheduling.v1.SchedulingService/SubmitJob", Scope.WRITE),
        ("/inference.GRPCInferenceService/ModelInfer", Scope.READ),
        ("/ergonaut.api.vectors.v1.VectorsService/DropCollection", Scope.WRITE),
    ],
)
def test_what_only_looks_needs_read_and_all_else_write(method: str, scope: Scope) -> None:
    assert scope_needed(method) is scope
