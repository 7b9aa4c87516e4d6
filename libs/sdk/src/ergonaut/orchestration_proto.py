"""Translates rollouts and retrainings between the protobuf messages of `ergonaut.api.orchestration.v1` and the contract's types.

The client and the orchestrator both speak through here, so that an input is validated by one set of rules at whichever door. What
is unset in a message is left to the contract's defaults.
"""

from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from pydantic import BaseModel, ValidationError

from ergonaut.api.orchestration.v1 import retraining_pb2 as retraining
from ergonaut.api.orchestration.v1 import rollouts_pb2 as rollouts
from ergonaut.errors import Refused
from ergonaut.faults import field_errors
from ergonaut.jobs_proto import spec_from_proto, spec_to_proto
from ergonaut.retraining import Recipe, RetrainingProgress
from ergonaut.rollouts import RolloutInput, RolloutProgress, RolloutSettings

Contract = TypeVar("Contract", bound=BaseModel)
Told = TypeVar("Told", bound=Message)

_NOT_ASKED = ("slow", "wrong")
"""Guards that may be null, which no message can say; 0 stands for it."""


def start_request_of(wish: RolloutInput) -> rollouts.StartRolloutRequest:
    """A wish for a rollout as it travels; the tenant is the caller's."""
    return rollouts.StartRolloutRequest(
        endpoint=wish.endpoint,
        model=wish.model,
        version=wish.version,
        because=wish.because,
        settings=_settings_message(wish),
    )


def rollout_input_of(request: rollouts.StartRolloutRequest, tenant: str) -> RolloutInput:
    """The wish for a rollout behind a request. Raises Refused naming the field."""
    given = {"tenant": tenant, "endpoint": request.endpoint, "model": request.model, "version": request.version}
    return accepted(RolloutInput, given | {"because": request.because} | _settings_of(request.settings))


def rollout_message(progress: RolloutProgress) -> rollouts.Rollout:
    """How a rollout stands, as it travels."""
    return _filled(rollouts.Rollout(), progress)


def recipe_message(recipe: Recipe) -> retraining.Recipe:
    """A recipe as it travels."""
    message = retraining.Recipe(job=spec_to_proto(recipe.job), within_seconds=recipe.within_seconds)
    for name in ("when", "artifacts", "judging"):
        _filled(getattr(message, name), getattr(recipe, name))
    if recipe.rollout is not None:
        message.endpoint = recipe.rollout.endpoint
        message.rollout.CopyFrom(_settings_message(recipe.rollout))
    return message


def recipe_of(message: retraining.Recipe) -> Recipe:
    """The recipe behind a message. Raises Refused naming the field."""
    given: dict[str, Any] = {"job": spec_from_proto(message.job)}
    given |= {
        name: _dict_of(getattr(message, name)) for name in ("when", "artifacts", "judging") if message.HasField(name)
    }
    if message.HasField("within_seconds"):
        given["within_seconds"] = message.within_seconds
    if message.endpoint:
        given["rollout"] = {"endpoint": message.endpoint, **_settings_of(message.rollout)}
    elif message.HasField("rollout"):
        raise Refused("is missing; say which endpoint the new version takes over", field="recipe.endpoint")
    return accepted(Recipe, given)


def retraining_message(progress: RetrainingProgress) -> retraining.Retraining:
    """A retraining as it travels."""
    message = _filled(retraining.Retraining(), progress.model_copy(update={"recipe": None}))
    if progress.recipe is not None:
        message.recipe.CopyFrom(recipe_message(progress.recipe))
    return message


def _settings_message(settings: RolloutSettings) -> rollouts.RolloutSettings:
    fields = set(RolloutSettings.model_fields)
    dumped = settings.model_dump(mode="json", include=fields)
    dumped["guards"] = {name: value or 0.0 for name, value in dumped["guards"].items()}
    return ParseDict(dumped, rollouts.RolloutSettings())


def _settings_of(message: rollouts.RolloutSettings) -> dict[str, Any]:
    given = _dict_of(message)
    for name in _NOT_ASKED:
        if given.get("guards", {}).get(name) == 0:
            given["guards"][name] = None
    return given


def _filled(message: Told, value: BaseModel) -> Told:
    return ParseDict(value.model_dump(mode="json", exclude_none=True), message)


def _dict_of(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return told


def accepted(contract: type[Contract], given: dict[str, Any]) -> Contract:
    """A value of the contract. Raises Refused naming each field that is wrong."""
    try:
        return contract.model_validate(given)
    except ValidationError as error:
        first, *others = field_errors(error, contract)
        sentences = [first.message, *(f"{other.field}: {other.message}" for other in others)]
        raise Refused("; ".join(sentences), field=first.field) from error
