"""Sets of replicas: nothing of a wish is lost on its way by gRPC, what is unset has its default, and names keep their bounds."""

from datetime import UTC, datetime

import pytest

from ergonaut.api.orchestration.v1 import replicas_pb2 as pb
from ergonaut.errors import Refused
from ergonaut.ids import is_name
from ergonaut.replicas import (
    ReplicasSpec,
    ReplicaState,
    ReplicaTold,
    ServingProgress,
    replica_job_id,
    replica_job_prefix,
)
from ergonaut.replicas_proto import replicas_message, serving_input_of, set_name_of, spec_message

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SPEC = ReplicasSpec.model_validate(
    {
        "replicas_min": 0,
        "replicas_max": 7,
        "scale_down_after_seconds": 0,
        "resources": {"vcpus": 0.5, "memory_gib": 2},
        "objective": "greenest",
        "budget": {"cost_usd": 3, "action": "pause"},
        "providers": ["local"],
        "project": "edge",
        "settings": {"ERGONAUT_GATEWAY_WORKERS": "2"},
    }
)


@pytest.mark.parametrize("spec", [SPEC, ReplicasSpec()])
def test_a_wish_arrives_as_it_was_sent(spec: ReplicasSpec) -> None:
    wish = serving_input_of(pb.SetReplicasRequest(name="edge", spec=spec_message(spec)), "default")
    assert (wish.tenant, wish.name, wish.spec) == ("default", "edge", spec)


def test_what_is_unset_has_its_default() -> None:
    assert serving_input_of(pb.SetReplicasRequest(name="edge"), "default").spec == ReplicasSpec()


def test_a_wrong_field_is_named() -> None:
    message = spec_message(ReplicasSpec())
    message.replicas_min = 9
    with pytest.raises(Refused, match="must be 9 at least") as refused:
        serving_input_of(pb.SetReplicasRequest(name="edge", spec=message), "default")
    assert refused.value.field == "replicas_max"


@pytest.mark.parametrize("name", ["", "Edge", "a" * 25, "-edge", "a/b"])
def test_a_set_has_a_name_from_which_jobs_can_be_named(name: str) -> None:
    with pytest.raises(Refused, match="1 to 24 lower-case letters"):
        set_name_of(name)


def test_the_job_of_a_replica_has_a_name_that_tells_its_set() -> None:
    job_id = replica_job_id("a" * 24, NOW, 7)
    assert is_name(job_id)
    assert job_id.startswith(replica_job_prefix("a" * 24))


def test_how_a_set_stands_arrives_as_it_was_told() -> None:
    replica = ReplicaTold(job_id="edge-replica-1", state=ReplicaState.SERVING, address="127.0.0.1:1", began_at=NOW)
    told = replicas_message(ServingProgress(name="edge", target=1, replicas=(replica,), spec=SPEC))
    assert (told.replicas[0].state, told.replicas[0].began_at.ToDatetime(UTC)) == ("serving", NOW)
    assert (told.HasField("wanted"), told.spec.replicas_max) == (False, 7)
