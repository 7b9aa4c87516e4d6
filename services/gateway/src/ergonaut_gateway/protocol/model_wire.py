"""ModelService's messages, and what they mean: versions, lineages, aliases."""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import fields

from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.errors import Refused
from ergonaut_gateway.domain.changes import Naming
from ergonaut_gateway.domain.models import Lineage, Model, ModelRecord, Used, VersionState

FIRST_ONLY = ("name", "run_id", "lineage", "signature_bundle", "alias")
"""Fields of a deployment that only its first message may have."""

_STATES = {
    VersionState.READY: pb.VERSION_STATE_READY,
    VersionState.UNLOADED: pb.VERSION_STATE_UNLOADED,
    VersionState.REMOVED: pb.VERSION_STATE_REMOVED,
}
Problem = Callable[[ModelRecord], str]
"""What keeps a version from being served here, or is wrong with it; nothing where all is well."""

_FIGURES = tuple(each.name for each in fields(Used))


def lineage_of(first: pb.DeployModelRequest, *, deployed_by: str) -> Lineage:
    """Where a file comes from, by the first message of its deployment."""
    told = first.lineage
    figures = {field.name: value for field, value in told.ListFields() if field.name in _FIGURES}
    return Lineage(first.run_id, Used(**figures), told.data_digest, told.framework, deployed_by)


async def chunks_of(first: pb.DeployModelRequest, rest: AsyncIterator[pb.DeployModelRequest]) -> AsyncIterator[bytes]:
    """The file of a deployment. Raises Refused where a later message tells what belongs in the first."""
    if first.chunk:
        yield first.chunk
    async for message in rest:
        for field, _ in message.ListFields():
            if field.name in FIRST_ONLY:
                raise Refused("belongs in the first message only", field=field.name)
        if message.chunk:
            yield message.chunk


def naming_of(request: pb.SetModelAliasRequest | pb.RemoveModelAliasRequest) -> Naming:
    """What an alias shall name. Raises Refused where that is not said."""
    expected = request.expected_version if request.HasField("expected_version") else None
    if isinstance(request, pb.RemoveModelAliasRequest):
        return Naming(request.alias, expected=expected)
    if not request.version:
        raise Refused("is missing; say which version the alias names", field="version")
    return Naming(request.alias, request.version, expected)


def told_versions(model: Model, problem: Problem) -> Iterable[pb.Model]:
    """All versions of a model, oldest first."""
    return [told_version(model, record, problem) for record in model.versions]


def told_aliases(model: Model) -> Iterable[pb.Alias]:
    """The aliases of a model by name."""
    return [pb.Alias(name=name, version=version) for name, version in sorted(model.aliases.items())]


def told_version(model: Model, record: ModelRecord, problem: Problem) -> pb.Model:
    """One version of a model."""
    message = pb.Model(
        name=record.name,
        version=record.version,
        digest=record.digest,
        size_bytes=record.size_bytes,
        run_id=record.run_id,
        state=_STATES[record.state],
        aliases=model.aliases_of(record.version),
        lineage=_lineage(record.lineage),
        deployed_by=record.lineage.deployed_by,
        is_signed=bool(record.signature_bundle),
        signed_by=record.signed_by,
        problem=problem(record),
    )
    message.deployed_at.FromDatetime(record.deployed_at)
    if record.removed_at is not None:
        message.removed_at.FromDatetime(record.removed_at)
    for specs, tensors in ((record.signature.inputs, message.inputs), (record.signature.outputs, message.outputs)):
        for spec in specs:
            tensors.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
    return message


def _lineage(lineage: Lineage) -> pb.Lineage:
    message = pb.Lineage(data_digest=lineage.data_digest, framework=lineage.framework)
    for name in _FIGURES:
        value = getattr(lineage.used, name)
        if value is not None:
            setattr(message, name, value)
    return message
