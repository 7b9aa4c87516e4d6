"""Translates sets of replicas between the protobuf messages of `ergonaut.api.orchestration.v1` and `ergonaut.replicas`.

The client and the orchestrator both speak through here. What is unset in a message is left to the contract's defaults.
"""

from google.protobuf.json_format import MessageToDict, ParseDict

from ergonaut.api.orchestration.v1 import replicas_pb2 as pb
from ergonaut.errors import Refused
from ergonaut.ids import is_name
from ergonaut.orchestration_proto import accepted
from ergonaut.replicas import SET_NAME_RULE, ReplicasSpec, ServingInput, ServingProgress

SET_NAME_LENGTH_MAX = 24


def set_name_of(name: str) -> str:
    """The name of a set. Raises Refused where it is none."""
    if not is_name(name) or len(name) > SET_NAME_LENGTH_MAX:
        raise Refused(f"{name!r} must be {SET_NAME_RULE}", field="name")
    return name


def spec_message(spec: ReplicasSpec) -> pb.ReplicasSpec:
    """A set as it travels."""
    return ParseDict(spec.model_dump(mode="json", exclude_none=True), pb.ReplicasSpec())


def spec_of(message: pb.ReplicasSpec) -> ReplicasSpec:
    """The set behind a message. Raises Refused naming the field."""
    return accepted(ReplicasSpec, MessageToDict(message, preserving_proto_field_name=True))


def serving_input_of(request: pb.SetReplicasRequest, tenant: str) -> ServingInput:
    """The wish for a set behind a request; the tenant is the caller's. Raises Refused naming the field."""
    return ServingInput(tenant=tenant, name=set_name_of(request.name), spec=spec_of(request.spec))


def replicas_message(progress: ServingProgress) -> pb.Replicas:
    """How a set stands, as it travels."""
    return ParseDict(progress.model_dump(mode="json", exclude_none=True), pb.Replicas())
