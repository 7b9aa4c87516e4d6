"""The Open Inference Protocol over gRPC, with Triton's extensions, as a servicer. Both gRPC servers answer by it, but for
ModelInfer, which the fast one does by itself."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from importlib.metadata import version
from typing import Any

import grpc

from ergonaut.api.openinference.v2 import open_inference_pb2 as oip
from ergonaut.api.openinference.v2.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from ergonaut.errors import ErgonautError, NotFound, Refused, Unavailable
from ergonaut.keys import Scope
from ergonaut_common.lifetimes import background
from ergonaut_common.observe import current_context
from ergonaut_common.rpc import caller, status_of
from ergonaut_gateway.domain.inference import DeadlineExceeded, InferenceAnswer
from ergonaut_gateway.domain.tallies import Spent
from ergonaut_gateway.protocol.grpc_wire import IS_LAST, decode_request, encode_answer, tell
from ergonaut_gateway.protocol.repository import indexed, ready_versions
from ergonaut_gateway.protocol.server import EXTENSIONS, SERVER_NAME, platform_of
from ergonaut_gateway.service import Catalogue, Models, Predictions
from ergonaut_gateway.service.footprint import Footprint, metered, traced
from ergonaut_gateway.service.plans import Cancellable
from ergonaut_gateway.service.predictions import Wish

STREAM_REQUESTS_MAX = 64
"""Requests of one stream that are at work at once; more are read when answers have left."""

PUSHBACK = "grpc-retry-pushback-ms"
"""With it clients that retry know when to."""

_DATATYPES = {name.removeprefix("TYPE_"): value for name, value in oip.DataType.items()} | {"BYTES": oip.TYPE_STRING}


class InferenceDoor(GRPCInferenceServiceServicer):
    """Answers the Open Inference Protocol."""

    def __init__(self, models: Models, catalogue: Catalogue, predictions: Predictions) -> None:
        self._models = models
        self._catalogue = catalogue
        self._predictions = predictions

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Any) -> Any:
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Any) -> Any:
        return oip.ServerReadyResponse(ready=self._predictions.ready)

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Any) -> Any:
        try:
            self._predictions.record_of(caller().tenant, request.name, request.version)
        except (NotFound, Unavailable):
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: oip.ServerMetadataRequest, context: Any) -> Any:
        return oip.ServerMetadataResponse(name=SERVER_NAME, version=version("ergonaut-gateway"), extensions=EXTENSIONS)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: Any) -> Any:
        record = self._predictions.record_of(caller().tenant, request.name, request.version)
        platform, _ = platform_of(record)
        response = oip.ModelMetadataResponse(name=record.name, versions=[str(record.version)], platform=platform)
        for specs, told in (
            (record.signature.inputs, response.inputs),
            (record.signature.outputs, response.outputs),
        ):
            for spec in specs:
                told.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
        return response

    async def ModelConfig(self, request: oip.ModelConfigRequest, context: Any) -> Any:
        record = self._predictions.record_of(caller().tenant, request.name, request.version)
        platform, backend = platform_of(record)
        config = oip.ModelConfig(name=record.name, platform=platform, backend=backend)
        for spec in record.signature.inputs:
            config.input.add(name=spec.name, data_type=_DATATYPES[spec.datatype], dims=spec.shape)
        for spec in record.signature.outputs:
            config.output.add(name=spec.name, data_type=_DATATYPES[spec.datatype], dims=spec.shape)
        return oip.ModelConfigResponse(config=config)

    async def ModelStatistics(self, request: oip.ModelStatisticsRequest, context: Any) -> Any:
        tenant = caller().tenant
        if request.name:
            found = self._predictions.record_of(tenant, request.name, request.version)
            versions = (
                [found] if request.version or not found.file else ready_versions(self._catalogue, tenant, request.name)
            )
        else:
            versions = ready_versions(self._catalogue, tenant)
        counted = [
            (record.name, self._predictions.statistics(tenant, record.name, str(record.version))) for record in versions
        ]
        return oip.ModelStatisticsResponse(model_stats=[_statistics(name, told) for name, told in counted])

    async def RepositoryIndex(self, request: oip.RepositoryIndexRequest, context: Any) -> Any:
        told = indexed(self._catalogue, self._predictions.plans, caller().tenant, only_ready=request.ready)
        return oip.RepositoryIndexResponse(models=[oip.RepositoryIndexResponse.ModelIndex(**each) for each in told])

    async def RepositoryModelLoad(self, request: oip.RepositoryModelLoadRequest, context: Any) -> Any:
        caller().require(Scope.WRITE)
        if request.parameters:
            raise Refused(
                "is not supported; files and configurations come with a deployment",
                field=f"parameters.{min(request.parameters)}",
            )
        await self._models.load(caller().tenant, request.model_name)
        return oip.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: oip.RepositoryModelUnloadRequest, context: Any) -> Any:
        caller().require(Scope.WRITE)
        await self._models.unload(caller().tenant, request.model_name)
        return oip.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Any) -> Any:
        asking = Asking(self._predictions, caller().tenant, request, context.time_remaining())
        try:
            return await asking.answer()
        except Unavailable as error:
            code, message, trailers = refusal_of(error)
            await context.abort(code, message, trailers)
        finally:
            asking.cancel()

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[oip.ModelInferRequest], context: Any) -> Any:
        """Answers come in the order of their requests, as Triton has it for models that give one answer to each; they are
        worked on at the same time. What goes wrong with one is told in its answer and does not end the stream."""
        tenant = caller().tenant
        asked: deque[Asking] = deque()
        news, room = asyncio.Event(), asyncio.Semaphore(STREAM_REQUESTS_MAX)

        unreadable: list[Exception] = []

        async def read() -> None:
            try:
                async for request in request_iterator:
                    await room.acquire()
                    asked.append(Asking(self._predictions, tenant, request, context.time_remaining()))
                    news.set()
            except Exception as error:
                # Told when those before it are answered, and by itself, which a group of tasks would not do.
                unreadable.append(error)

        try:
            async with background(read()) as reading:
                reading.add_done_callback(lambda _: news.set())
                try:
                    while asked or not reading.done():
                        while asked:
                            yield await asked[0].streamed()
                            asked.popleft()
                            room.release()
                        news.clear()
                        if not asked and not reading.done():
                            await news.wait()
                except GeneratorExit:
                    # The caller went between two answers; the group would make this an error of its own.
                    return
            if unreadable:
                raise unreadable[0]
        finally:
            for asking in asked:
                asking.cancel()


class Asking:
    """One request that was handed on, and what comes of it."""

    def __init__(
        self, predictions: Predictions, tenant: str, request: oip.ModelInferRequest, seconds_left: float | None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._answer: asyncio.Future[InferenceAnswer] = loop.create_future()
        self._ticket: Cancellable | None = None
        self._footprint: Footprint | None = None
        try:
            wanted, self._terms = decode_request(request)
            if self._terms.energy:
                wanted, self._footprint = metered(wanted, predictions.energy)
            if (trace := current_context()) is not None:
                wanted = traced(wanted, trace)
            left = [each for each in (seconds_left, self._terms.timeout_seconds) if each is not None]
            # The loop's clock, read anew: uvloop's own reading is as old as its turn.
            deadline_seconds = time.monotonic() + min(left) if left else None
            name, version, terms = request.model_name, request.model_version, self._terms
            wish = Wish(tenant, name, version, deadline_seconds, terms.priority, terms.parameters)
            self._ticket = predictions.submit(wish, wanted, partial(_settle, self._answer))
        except ErgonautError as error:
            self._answer.set_exception(error)

    async def answer(self) -> oip.ModelInferResponse:
        """The answer. Raises what `Predictions.submit` gives."""
        answer = encode_answer(await self._answer, raw=self._terms.raw)
        if self._footprint is not None:
            tell(answer, self._footprint())
        return answer

    async def streamed(self) -> oip.ModelStreamInferResponse:
        """The answer as streams have it, or in its place why there is none."""
        try:
            answer = await self.answer()
        except Exception as error:
            request = self._request
            told = oip.ModelInferResponse(id=request.id, model_name=request.model_name)
            return oip.ModelStreamInferResponse(error_message=status_of(error)[1], infer_response=told)
        if self._terms.tells_last:
            answer.parameters[IS_LAST].bool_param = True
        return oip.ModelStreamInferResponse(infer_response=answer)

    def cancel(self) -> None:
        """Drop it, if it is not answered."""
        self._answer.cancel()
        if self._ticket is not None:
            self._ticket.cancel()


def refusal_of(error: Unavailable) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """The status, sentence and trailers for a request that came at a bad time."""
    if isinstance(error, DeadlineExceeded):
        return grpc.StatusCode.DEADLINE_EXCEEDED, str(error), ()
    retry_seconds = getattr(error, "retry_after_seconds", None)
    if retry_seconds is None:
        return grpc.StatusCode.UNAVAILABLE, str(error), ()
    return (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        str(error),
        ((PUSHBACK, str(max(1, round(1000 * retry_seconds)))),),
    )


def _settle(future: "asyncio.Future[InferenceAnswer]", outcome: InferenceAnswer | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, asyncio.CancelledError):
        future.cancel()
    elif isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _statistics(name: str, told: Any) -> oip.ModelStatistics:
    """As Triton tells them; what is not measured apart from the rest has a count of 0."""
    return oip.ModelStatistics(
        name=name,
        version=str(told.version),
        last_inference=told.last_inference_ms,
        inference_count=told.inferences,
        execution_count=told.executions,
        inference_stats=oip.InferStatistics(
            success=_spent(told.success),
            fail=_spent(told.fail),
            queue=_spent(told.queue),
            compute_input=_spent(told.compute_input),
            compute_infer=_spent(told.compute_infer),
            compute_output=_spent(told.compute_output),
            cache_hit=_spent(told.cache_hit),
            cache_miss=_spent(told.cache_miss),
        ),
        batch_stats=[
            oip.InferBatchStatistics(batch_size=rows, compute_infer=_spent(spent))
            for rows, spent in told.batches.items()
        ],
    )


def _spent(spent: Spent) -> oip.StatisticDuration:
    return oip.StatisticDuration(count=spent.count, ns=spent.ns)
