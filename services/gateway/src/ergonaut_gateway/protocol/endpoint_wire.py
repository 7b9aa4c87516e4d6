"""Endpoints as EndpointService's messages tell them."""

from collections.abc import Mapping

from ergonaut.api.inference.v1 import endpoints_pb2 as pb
from ergonaut_gateway.domain.endpoints.figures import RouteFigures
from ergonaut_gateway.domain.endpoints.records import EndpointRecord, Revision
from ergonaut_gateway.domain.endpoints.spec import Endpoint, Mirror, Route


def endpoint_of(told: pb.Endpoint) -> Endpoint:
    """What somebody wants an endpoint to be; nothing is checked yet."""
    return Endpoint(
        name=told.name,
        routes=tuple(Route(each.name, each.model, each.version, each.weight) for each in told.routes),
        mirrors=tuple(Mirror(each.model, each.version, each.share) for each in told.mirrors),
        key_parameter=told.key_parameter,
        slow_milliseconds=told.slow_milliseconds,
    )


def told_endpoint(revision: Revision) -> pb.Endpoint:
    """An endpoint as it is or was."""
    endpoint = revision.endpoint
    told = pb.Endpoint(
        name=endpoint.name,
        routes=[
            pb.Route(name=each.name, model=each.model, version=each.version, weight=each.weight)
            for each in endpoint.routes
        ],
        mirrors=[pb.Mirror(model=each.model, version=each.version, share=each.share) for each in endpoint.mirrors],
        key_parameter=endpoint.key_parameter,
        slow_milliseconds=endpoint.slow_milliseconds,
        revision=revision.revision,
        changed_by=revision.changed_by,
        because=revision.because,
    )
    told.changed_at.FromDatetime(revision.changed_at)
    return told


def told_figures(record: EndpointRecord, figures: Mapping[str, RouteFigures]) -> pb.GetEndpointFiguresResponse:
    """What the routes of an endpoint did."""
    routes = [
        pb.RouteFigures(
            name=name,
            requests=each.requests,
            drawn=each.drawn,
            failed=each.failed,
            slow=each.slow,
            labelled=each.labelled,
            wrong=each.wrong,
            seconds=each.seconds,
            keys=each.keys,
            key_counters=each.key_counters,
        )
        for name, each in figures.items()
    ]
    return pb.GetEndpointFiguresResponse(revision=record.now.revision, routes=routes)
