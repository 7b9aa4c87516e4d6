"""The door ModelBookService: what served models used, and the requests that were logged."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from ergonaut.api.ledger.v1 import models_pb2 as pb
from ergonaut.api.ledger.v1.models_pb2_grpc import ModelBookServiceServicer, add_ModelBookServiceServicer_to_server
from ergonaut.errors import Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut_common.rpc import caller
from ergonaut_ledger.domain.bounds import EARLIEST, LATEST
from ergonaut_ledger.domain.served import LoggedRequest, ModelFootprint, Place, RequestsQuestion
from ergonaut_ledger.domain.usage import Span
from ergonaut_ledger.rpc.translating import moment, timestamp, within
from ergonaut_ledger.service.serving_models import ServingModels

ROWS_MAX, ROWS_DEFAULT = 1_000, 100
VERSION_MAX = 2**63 - 1


class ModelBookDoor(ModelBookServiceServicer):
    """Answers for the caller's tenant."""

    def __init__(self, serving: ServingModels) -> None:
        self._serving = serving

    async def ListModelFootprints(self, request: pb.ListModelFootprintsRequest, context: Any) -> Any:
        during = Span(moment("starts_at", request.starts_at), moment("ends_at", request.ends_at))
        if during.starts_at >= during.ends_at:
            raise Refused("must be after starts_at", field="ends_at")
        model = _model(request.model) if request.model else ""
        told = await self._serving.footprints(caller().tenant, model, during)
        return pb.ListModelFootprintsResponse(footprints=[_footprint(each) for each in told])

    async def ListModelRequests(self, request: pb.ListModelRequestsRequest, context: Any) -> Any:
        question = RequestsQuestion(
            tenant=caller().tenant,
            model=_model(request.model),
            version=within("version", request.version, 0, VERSION_MAX),
            since=_moment_or("since", request.since, EARLIEST),
            until=_moment_or("until", request.until, LATEST),
            limit=within("limit", request.limit or ROWS_DEFAULT, 1, ROWS_MAX),
            after=Place.of(request.page_token) if request.page_token else None,
        )
        page = await self._serving.requests(question)
        told = pb.ListModelRequestsResponse(requests=[_request(each) for each in page.requests])
        if page.next is not None:
            told.next_page_token = page.next.token()
        return told

    async def ForgetModelRequests(self, request: pb.ForgetModelRequestsRequest, context: Any) -> Any:
        before = _moment_or("before", request.before, LATEST)
        await self._serving.forget(caller().tenant, _model(request.model), before)
        return pb.ForgetModelRequestsResponse()


def model_book_door(serving: ServingModels) -> Callable[[aio.Server], None]:
    """What puts the service on a server."""

    def add(server: aio.Server) -> None:
        add_ModelBookServiceServicer_to_server(ModelBookDoor(serving), server)

    return add


def _model(name: str) -> str:
    if not is_name(name):
        raise Refused(f"{name!r} is no model's name; it must be {NAME_RULE}", field="model")
    return name


def _moment_or(field: str, stamp: Timestamp, unset: datetime) -> datetime:
    return moment(field, stamp) if stamp.seconds else unset


def _footprint(told: ModelFootprint) -> pb.ModelFootprint:
    return pb.ModelFootprint(
        model=told.model,
        version=told.version,
        requests=told.requests,
        predictions=told.predictions,
        failed=told.failed,
        cpu_seconds=told.cpu_seconds,
        predictions_measured=told.predictions_measured,
        energy_joules=told.energy_joules,
        energy_joules_low=told.energy_joules_low,
        energy_joules_high=told.energy_joules_high,
        energy_method=",".join(told.methods),
        carbon_grams_co2e=told.carbon_grams_co2e,
        cost_usd=told.cost_usd,
    )


def _request(told: LoggedRequest) -> pb.ModelRequest:
    return pb.ModelRequest(
        request_id=told.request_id,
        version=told.version,
        answered_at=timestamp(told.answered_at),
        latency_ms=told.latency_ms,
        rate=told.rate,
        inputs_json=told.inputs,
        outputs_json=told.outputs,
    )
