"""What becomes of a model when it is deployed, removed, aliased, loaded or unloaded. Each gives the model after the change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from ergonaut.errors import Conflict, NotFound, Refused
from ergonaut.events import Event, ModelAliased, ModelDeployed, ModelRemoved
from ergonaut.ids import derived_id
from ergonaut_gateway.domain.models import (
    CHAMPION,
    Candidate,
    Fact,
    FactKind,
    Model,
    ModelRecord,
    VersionState,
    check_alias,
)

ALIASES_MAX = 32
"""Aliases of one model. Aliased versions are never dropped, so this also bounds what is kept."""

REMOVED_MAX = 20
"""Removed versions that a record still tells of; their files are gone, and a record must stay small."""


Held = Mapping[str, str]
"""Who needs versions of a model, by their numbers or aliases as they name them; empty names whichever is served by default."""

NOBODY: Held = {}


@dataclass(frozen=True, slots=True)
class Naming:
    """An alias that shall name a version, or none. `expected` is the version that it must name now: 0 for none, None for any."""

    alias: str
    version: str = ""
    expected: int | None = None


def same_file(current: Model, digest: str, *, is_signed: bool, signed_by: str) -> ModelRecord | None:
    """The newest version where it is this very file, so that deploying it again changes nothing but, maybe, its state.

    A signature that it came without, or by another key, is news.
    """
    newest = current.kept[-1] if current.kept else None
    if newest is None or newest.digest != digest:
        return None
    is_known = bool(newest.signature_bundle) and newest.signed_by == signed_by
    return newest if is_known or not is_signed else None


def deployed(
    current: Model,
    candidate: Candidate,
    *,
    at: datetime,
    versions_max: int,
    held: Held = NOBODY,
    alias: str = "",
) -> Model:
    """The model with one more version, which is ready. Numbers go on counting, so that one never means two files.

    With an alias, the version that was served by default is the champion from now on, unless the alias is that.
    """
    version = current.version_last + 1
    before, aliases = current.aliases, _aliases_with(current, alias, version)
    current = replace(current, aliases=aliases)
    record = ModelRecord(
        tenant=current.tenant,
        name=current.name,
        version=version,
        digest=candidate.digest,
        size_bytes=candidate.size_bytes,
        file=candidate.file,
        signature=candidate.signature,
        deployed_at=at,
        run_id=candidate.lineage.run_id,
        deployment_id=candidate.deployment_id,
        lineage=candidate.lineage,
        signature_bundle=candidate.signature_bundle,
        signed_by=candidate.signed_by,
    )
    rested = tuple(_rested(current, older, held) for older in current.versions)
    grown = replace(current, versions=(*rested, record), version_last=version)
    facts = [Fact(FactKind.DEPLOYED, at, version)]
    facts += [Fact(FactKind.ALIASED, at, named, each) for each, named in aliases.items() if named != before.get(each)]
    return _changed(_bounded(grown, held, at=at, versions_max=versions_max), *facts)


def _aliases_with(current: Model, alias: str, version: int) -> dict[str, int]:
    """The aliases after a deployment that asked for one."""
    if not alias:
        return current.aliases
    default = current.default
    kept = {CHAMPION: default.version} if default is not None and alias != CHAMPION else {}
    aliases = {**kept, **current.aliases, alias: version}
    if len(aliases) > ALIASES_MAX:
        raise Refused(f"a model has at most {ALIASES_MAX} aliases; remove one first", field="alias")
    return aliases


def ready_more(current: Model | None, held: Held = NOBODY) -> int:
    """How many more versions are ready after a deployment; often none, since the version before then rests."""
    if current is None:
        return 1
    rested = [_rested(current, record, held) for record in current.versions]
    return 1 + sum(record.served for record in rested) - len(current.ready)


def removed(current: Model, version: str, *, at: datetime, held: Held = NOBODY) -> Model:
    """The model without a version, or without any where none is named. Raises NotFound, or Refused for one that is needed."""
    if not version:
        _check_whole_unheld(current, held, "removed")
        gone = replace(current, versions=tuple(_removed(each, at) for each in current.versions), aliases={})
        return _changed(gone, Fact(FactKind.REMOVED, at, current.version_last))
    record = current.named(version)
    _check_unnamed(current, record, "removed")
    _check_unheld(current, record, held, "removed")
    rest = _with(current, record, lambda each: _removed(each, at))
    _check_default(rest, held, "removed")
    return _changed(rest, *(() if rest.is_kept else (Fact(FactKind.REMOVED, at, current.version_last),)))


def aliased(current: Model, naming: Naming, *, at: datetime) -> Model:
    """The model with an alias that names a version, which is ready from then on. Raises Conflict, NotFound or Refused."""
    check_alias(naming.alias)
    _check_expected(current, naming)
    record = current.named(naming.version)
    if current.aliases.get(naming.alias) == record.version and record.served:
        return current
    aliases = {**current.aliases, naming.alias: record.version}
    if len(aliases) > ALIASES_MAX:
        raise Refused(f"a model has at most {ALIASES_MAX} aliases; remove one first", field="alias")
    ready = _with(replace(current, aliases=aliases), record, _ready)
    return _changed(ready, Fact(FactKind.ALIASED, at, record.version, naming.alias))


def unaliased(current: Model, naming: Naming, *, at: datetime, held: Held = NOBODY) -> Model:
    """The model without an alias; its version stays. Raises Conflict, NotFound, or Refused for one that is needed."""
    if naming.alias not in current.aliases:
        raise NotFound(f"model {current.name} has no alias {naming.alias}")
    if who := held.get(naming.alias):
        raise Refused(f"{naming.alias} of model {current.name} is needed by {who}; change that first", field="alias")
    _check_expected(current, naming)
    aliases = {alias: version for alias, version in current.aliases.items() if alias != naming.alias}
    return _changed(replace(current, aliases=aliases), Fact(FactKind.ALIASED, at, 0, naming.alias))


def loaded(current: Model, version: str, *, is_pinned: bool = True) -> Model:
    """The model with a version ready; none named is the foremost and all with an alias.

    A version that is pinned stays ready when newer ones come.
    """
    if version:
        chosen = current.named(version)
        change = _pinned if is_pinned else _ready
        return _if_new(current, _with(current, chosen, change))
    wanted = {current.named("").version, *current.aliases.values()}
    ready = (_ready(each) if each.version in wanted and each.is_kept else each for each in current.versions)
    return _if_new(current, replace(current, versions=tuple(ready)))


def unloaded(current: Model, version: str, *, held: Held = NOBODY) -> Model:
    """The model with a version, or none, not ready. Raises NotFound, or Refused for a version that is needed."""
    if version:
        record = current.named(version)
        _check_unnamed(current, record, "unloaded")
        _check_unheld(current, record, held, "unloaded")
        after = _with(current, record, _unloaded)
        _check_default(after, held, "unloaded")
        return _if_new(current, after)
    current.named("")
    _check_whole_unheld(current, held, "unloaded")
    return _if_new(current, replace(current, versions=tuple(map(_unloaded, current.versions))))


def released(current: Model, deployment_id: str, version: int) -> Model:
    """The model after the file of a removed version was given up; the oldest removed versions are forgotten."""
    noted = tuple(
        replace(each, is_file_released=True) if (each.version, each.deployment_id) == (version, deployment_id) else each
        for each in current.versions
    )
    forgettable = [each.version for each in noted if not each.is_kept and each.is_file_released]
    forgotten = set(forgettable[: max(len(forgettable) - REMOVED_MAX, 0)])
    return replace(current, versions=tuple(each for each in noted if each.version not in forgotten))


def events_of(model: Model) -> list[Event]:
    """The events behind what nobody has been told of yet, the same however often they are asked for."""
    return [_event(model, fact) for fact in model.untold]


def _event(model: Model, fact: Fact) -> Event:
    parts = (model.tenant, model.name, str(fact.version))
    if fact.kind is FactKind.REMOVED:
        return ModelRemoved(
            event_id=derived_id("event", "model-removed", *parts),
            tenant=model.tenant,
            occurred_at=fact.at,
            model=model.name,
        )
    if fact.kind is FactKind.ALIASED:
        return ModelAliased(
            event_id=derived_id("event", "model-aliased", *parts, fact.alias, str(fact.change)),
            tenant=model.tenant,
            occurred_at=fact.at,
            model=model.name,
            alias=fact.alias,
            version=fact.version,
        )
    record = next(each for each in model.versions if each.version == fact.version)
    return ModelDeployed(
        event_id=derived_id("event", "model-deployed", *parts),
        tenant=model.tenant,
        occurred_at=fact.at,
        model=model.name,
        version=record.version,
        digest=record.digest,
        size_bytes=record.size_bytes,
        run_id=record.run_id,
    )


def _changed(model: Model, *facts: Fact) -> Model:
    """The model with its changes counted and what is to be told of this one."""
    change = model.changes + 1
    told_later = tuple(replace(fact, change=change) for fact in facts)
    return replace(model, changes=change, untold=(*model.untold, *told_later))


def _if_new(current: Model, after: Model) -> Model:
    return current if after.versions == current.versions else _changed(after)


def _with(model: Model, record: ModelRecord, change: Callable[[ModelRecord], ModelRecord]) -> Model:
    changed = (change(each) if each.version == record.version else each for each in model.versions)
    return replace(model, versions=tuple(changed))


def _rested(model: Model, record: ModelRecord, held: Held) -> ModelRecord:
    """What a newer version makes of an older one: it is unloaded, but for those that somebody named, asked for or needs."""
    if not record.served or record.is_pinned or _is_kept_ready(model, record, held):
        return record
    return _unloaded(record)


def _bounded(model: Model, held: Held, *, at: datetime, versions_max: int) -> Model:
    """The model with the oldest versions beyond the bound removed; neither the newest nor one that is named or needed is."""
    droppable = [each for each in model.kept[:-1] if not _is_kept_ready(model, each, held)]
    for record in droppable[: max(len(model.kept) - versions_max, 0)]:
        model = _with(model, record, lambda each: _removed(each, at))
    return model


def _ready(record: ModelRecord) -> ModelRecord:
    return replace(record, state=VersionState.READY)


def _pinned(record: ModelRecord) -> ModelRecord:
    return replace(record, state=VersionState.READY, is_pinned=True)


def _unloaded(record: ModelRecord) -> ModelRecord:
    return replace(record, state=VersionState.UNLOADED, is_pinned=False) if record.is_kept else record


def _removed(record: ModelRecord, at: datetime) -> ModelRecord:
    if not record.is_kept:
        return record
    # Its signature goes as well: many removed versions shall not make the record too large to be kept.
    return replace(record, state=VersionState.REMOVED, is_pinned=False, removed_at=at, signature_bundle="")


def _check_unnamed(model: Model, record: ModelRecord, what: str) -> None:
    if named := model.aliases_of(record.version):
        raise Refused(
            f"{record.version} of model {model.name} is its {', '.join(named)} and cannot be {what}; "
            "let the alias name another version first",
            field="version",
        )


def _is_kept_ready(model: Model, record: ModelRecord, held: Held) -> bool:
    return bool(model.aliases_of(record.version)) or str(record.version) in held


def _check_unheld(model: Model, record: ModelRecord, held: Held, what: str) -> None:
    if who := held.get(str(record.version)):
        raise Refused(
            f"{record.version} of model {model.name} is needed by {who} and cannot be {what}; change that first",
            field="version",
        )


def _check_whole_unheld(model: Model, held: Held, what: str) -> None:
    for who in held.values():
        raise Refused(f"model {model.name} is needed by {who} and cannot be {what}; change that first", field="name")


def _check_default(after: Model, held: Held, what: str) -> None:
    """Raise Refused where somebody needs whichever version is served by default, and none would be."""
    if after.default is None and (who := held.get("")):
        raise Refused(
            f"it is the last version of model {after.name} that is served, and {who} needs one; it cannot be {what}",
            field="version",
        )


def _check_expected(model: Model, naming: Naming) -> None:
    names = model.aliases.get(naming.alias, 0)
    if naming.expected is not None and naming.expected != names:
        told = f"names version {names}" if names else "is not set"
        wanted = f"version {naming.expected}" if naming.expected else "nothing"
        raise Conflict(f"alias {naming.alias} of model {model.name} {told}, and was expected to name {wanted}")
