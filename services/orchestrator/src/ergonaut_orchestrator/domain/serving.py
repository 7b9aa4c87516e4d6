"""Sets of replicas: how many there should be, which of them are replaced, which end. Pure; the workflow `Serving` asks it.

The rules, so that a person can check them:
target  = what the gateways' own forecast wants in all, less the gateways that are none of ours, between the least and the most.
          More is there at once; for fewer the most of the last minutes counts (`scale_down_after_seconds`).
gone    = its job has ended, or its gateway is not heard any more: another takes its place. Where none is heard at all, the bus
          may be at fault and not they, so that longer is waited.
changed = made by an earlier spec, or old: one more is started, and when it serves one of those ends; so one after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from ergonaut.jobs import JobSpec
from ergonaut.replicas import ReplicasSpec, ReplicaState, ReplicaTold, ServingInput, ServingProgress
from ergonaut_orchestrator.domain.attempts import brief
from ergonaut_orchestrator.domain.replicas import STOP_SECONDS_SETTING

HEARD_WITHIN = timedelta(seconds=6)
"""Gateways announce themselves each second, and a look may come just before; later than this is silence."""

SILENT_MAX = timedelta(seconds=15)
"""So long a gateway may be silent while others are heard: a machine that is busy for seconds is not gone."""

ALL_SILENT_MAX = timedelta(seconds=90)
"""So long all may be: NATS that was restarted is found again within that."""

LIVED_LONG = timedelta(seconds=60)
"""Who served so long and then ended is replaced at once; who ended sooner would perhaps end so again and again."""

FIRST_PAUSE = timedelta(seconds=2)
LAST_PAUSE = timedelta(minutes=5)
"""Pauses before the next try, doubled with each replica that came to nothing; prices and budgets change no faster."""

STARTS_WITHIN = timedelta(seconds=60)
"""A replica is wanted now, wherever that is cheap and clean, and not at a cheaper hour."""

ATTEMPTS_MAX = 20
"""Of one replica's job: after a restart of the platform its interrupted replicas go on by themselves."""

REPLICA_COMMAND = ("python", "-m", "ergonaut_gateway")
"""What people see of the program; which one it really is, the orchestrator alone says."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica, by its job."""

    job_id: str
    revision: int
    """Of the spec that it was made by."""
    began_at: datetime
    heard_at: datetime | None = None
    """When its gateway was last heard to serve; None before."""
    served_from: datetime | None = None
    silent_from: datetime | None = None
    """Since when looks do not find it; None where the last one did. What nobody looked at was not silent."""
    address: str = ""
    leaving_because: str = ""
    """Why it was asked to end; empty where it was not."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many replicas would have been right at some time."""

    at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the workflow knows of its set."""

    spec: ReplicasSpec
    revision: int = 1
    replicas: tuple[Replica, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    """Of those times that still count, the newest last, each smaller than the one before: the first is the most."""
    forecast: int | None = None
    """Of all gateways, as they told last."""
    failures: int = 0
    """Replicas in a row that came to nothing."""
    failed_at: datetime | None = None
    """When the last of them did."""
    because: str = ""
    """What the last of them came to nothing of."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One gateway that announces itself; several processes of it are one."""

    replica: str
    address: str = ""
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found."""

    ended: Mapping[str, str] = field(default_factory=dict)
    """The jobs that have ended, and what is known of why."""
    not_running: tuple[str, ...] = ()
    """The jobs whose program does not run now, since they are being placed or begun again."""
    heard: tuple[Heard, ...] | None = None
    """The gateways that are heard; None where nobody can say now."""
    forecast: int | None = None
    """How many gateways are wanted in all, as they forecast it; None where none told."""


@dataclass(frozen=True, slots=True)
class Moves:
    """What is to be done now."""

    start: int = 0
    leave: tuple[tuple[str, str], ...] = ()
    """Job and reason of each replica that is to end."""


def looked(fleet: Fleet, seen: Seen, now: datetime) -> Fleet:
    """What is known after a look."""
    fleet = _without_ended(fleet, seen.ended, now)
    if seen.heard is None:
        return fleet
    serving = {each.replica: each for each in seen.heard if not each.draining}
    replicas = tuple(_heard(each, serving.get(each.job_id), now) for each in fleet.replicas)
    ours = {each.job_id for each in fleet.replicas}
    fleet = replace(fleet, replicas=replicas, forecast=seen.forecast)
    if any(_shows_that_it_works(fleet, each, now) for each in live(fleet)):
        fleet = replace(fleet, failures=0, failed_at=None, because="")
    return _with_wanted(fleet, seen.forecast, others=len(serving.keys() - ours), now=now)


def moves(fleet: Fleet, seen: Seen, now: datetime) -> Moves:
    """What follows from it: who is gone is replaced, who is outdated too, one at a time, and the number becomes the target."""
    gone = _gone(fleet, seen, now)
    fleet = _without(fleet, gone, now)
    surplus = _surplus(fleet, now)
    return Moves(_starts(_without(fleet, surplus, now), now), (*gone, *surplus))


def all_leave(fleet: Fleet, because: str) -> Moves:
    """Every replica ends."""
    return Moves(leave=tuple((each.job_id, because) for each in live(fleet)))


def target(fleet: Fleet) -> int:
    """How many replicas there should be now."""
    spec = fleet.spec
    most = fleet.wanted[0].count if fleet.wanted else 0
    return min(max(most, spec.replicas_min), spec.replicas_max)


def live(fleet: Fleet) -> list[Replica]:
    """Those that were not asked to end."""
    return [each for each in fleet.replicas if not each.leaving_because]


def is_settled(fleet: Fleet, now: datetime) -> bool:
    """Whether nothing is under way that is worth a look soon."""
    return len(live(fleet)) == len(fleet.replicas) == target(fleet) and all(
        _serves(each, now) and not _is_outdated(fleet, each, now) for each in fleet.replicas
    )


def with_spec(fleet: Fleet, spec: ReplicasSpec) -> Fleet:
    """The set by another spec; replicas that would be made otherwise are outdated, and those of it may be tried at once."""
    revision = fleet.revision if spec.makes_the_same(fleet.spec) else fleet.revision + 1
    return replace(fleet, spec=spec, revision=revision, failures=0, failed_at=None, because="")


def with_started(fleet: Fleet, job_id: str, now: datetime) -> Fleet:
    """With one replica more."""
    return replace(fleet, replicas=(*fleet.replicas, Replica(job_id, fleet.revision, now)))


def with_leaving(fleet: Fleet, job_id: str, because: str, now: datetime) -> Fleet:
    """With one of them asked to end. One that never served has come to nothing."""
    left = next(each for each in fleet.replicas if each.job_id == job_id)
    replicas = tuple(
        replace(each, leaving_because=because) if each.job_id == job_id else each for each in fleet.replicas
    )
    fleet = replace(fleet, replicas=replicas)
    is_late = left.served_from is None and now - left.began_at > timedelta(seconds=fleet.spec.ready_within_seconds)
    return _failed(fleet, because, now) if is_late else fleet


def replica_job(fleet: Fleet, now: datetime) -> JobSpec:
    """The job of a replica: to be placed now, for as long as it stays before another takes its place."""
    spec = fleet.spec
    return JobSpec(
        name="gateway",
        command=REPLICA_COMMAND,
        environment={**spec.settings, STOP_SECONDS_SETTING: f"{spec.drain_seconds:g}"},
        resources=spec.resources,
        duration_seconds_expected=spec.replace_after_seconds,
        objective=spec.objective,
        deadline=now + timedelta(seconds=spec.replace_after_seconds) + STARTS_WITHIN,
        budget=spec.budget,
        providers=spec.providers,
        attempts_max=ATTEMPTS_MAX,
        project=spec.project,
    )


def serving_progress(name: str, fleet: Fleet, now: datetime, *, stop_because: str | None) -> ServingProgress:
    """How a set stands, for whoever asks."""
    return ServingProgress(
        name=name,
        stopping=stop_because is not None,
        because=stop_because or fleet.because,
        wanted=fleet.forecast,
        target=0 if stop_because is not None else target(fleet),
        replicas=tuple(_told(fleet, each, now) for each in fleet.replicas),
        spec=fleet.spec,
    )


def _told(fleet: Fleet, replica: Replica, now: datetime) -> ReplicaTold:
    state = ReplicaState.SERVING if _serves(replica, now) else ReplicaState.SILENT
    if replica.served_from is None:
        state = ReplicaState.STARTING
    if replica.leaving_because:
        state = ReplicaState.LEAVING
    return ReplicaTold(
        job_id=replica.job_id,
        state=state,
        address=replica.address,
        because=replica.leaving_because,
        outdated=_is_outdated(fleet, replica, now),
        began_at=replica.began_at,
    )


def _without_ended(fleet: Fleet, ended: Mapping[str, str], now: datetime) -> Fleet:
    for each in fleet.replicas:
        if each.job_id not in ended:
            continue
        fleet = replace(fleet, replicas=tuple(other for other in fleet.replicas if other is not each))
        if not each.leaving_because and not _lived_long(each, now):
            fleet = _failed(fleet, ended[each.job_id], now)
    return fleet


def _failed(fleet: Fleet, because: str, now: datetime) -> Fleet:
    return replace(fleet, failures=fleet.failures + 1, failed_at=now, because=brief(because))


def _pauses(fleet: Fleet, now: datetime) -> bool:
    """Whether it is too soon for another, after one that came to nothing."""
    if fleet.failed_at is None:
        return False
    pause: timedelta = min(FIRST_PAUSE * 2 ** min(fleet.failures - 1, 16), LAST_PAUSE)
    return now < fleet.failed_at + pause


def _shows_that_it_works(fleet: Fleet, replica: Replica, now: datetime) -> bool:
    """Whether a replica that was made after the last one that came to nothing serves for long."""
    is_newer = fleet.failed_at is not None and replica.began_at >= fleet.failed_at
    return is_newer and replica.revision == fleet.revision and _lived_long(replica, now)


def _lived_long(replica: Replica, now: datetime) -> bool:
    return replica.served_from is not None and now - replica.served_from >= LIVED_LONG


def _heard(replica: Replica, heard: Heard | None, now: datetime) -> Replica:
    if heard is None:
        return replace(replica, silent_from=replica.silent_from or now)
    served_from = replica.served_from or now
    return replace(replica, heard_at=now, served_from=served_from, silent_from=None, address=heard.address)


def _with_wanted(fleet: Fleet, forecast: int | None, *, others: int, now: datetime) -> Fleet:
    """With what is wanted now. Of earlier times only those count that wanted more, and are not too long ago."""
    if forecast is None:
        return fleet
    count = max(forecast - others, 0)
    since = now - timedelta(seconds=fleet.spec.scale_down_after_seconds)
    kept = tuple(each for each in fleet.wanted if each.count > count and each.at > since)
    return replace(fleet, wanted=(*kept, Wanted(now, count)))


def _gone(fleet: Fleet, seen: Seen, now: datetime) -> tuple[tuple[str, str], ...]:
    """Those that are not heard any more, or never were."""
    if seen.heard is None:
        return ()
    silence = SILENT_MAX if seen.heard else ALL_SILENT_MAX
    ready = timedelta(seconds=fleet.spec.ready_within_seconds)
    found = []
    for each in live(fleet):
        begins = each.heard_at is None or each.job_id in seen.not_running
        since = each.began_at if each.heard_at is None else each.silent_from
        if since is None or now - since <= (ready if begins else silence):
            continue
        late = f"it did not announce itself within {ready.total_seconds():g} s"
        found.append((each.job_id, late if begins else f"it is silent for {(now - since).total_seconds():.0f} s"))
    return tuple(found)


def _surplus(fleet: Fleet, now: datetime) -> tuple[tuple[str, str], ...]:
    """Those that end since there are too many, or since what takes their place serves; never so many that too few serve."""
    here, count = live(fleet), target(fleet)
    outdated = [each for each in here if _is_outdated(fleet, each, now)]
    found = [(each.job_id, "it was made by an earlier spec") for each in outdated if each.served_from is None]
    here = [each for each in here if each.job_id not in dict(found)]
    outdated = [each for each in outdated if each in here]
    serving = sum(_serves(each, now) for each in here)
    for each in _in_order_of_leaving(outdated or here, now):
        if len(here) <= count:
            break
        if _serves(each, now) and serving <= count:
            continue
        here.remove(each)
        serving -= _serves(each, now)
        found.append((each.job_id, "another has taken its place" if each in outdated else f"{count} are enough"))
    return tuple(found)


def _in_order_of_leaving(replicas: Sequence[Replica], now: datetime) -> list[Replica]:
    """Who does not serve first, then the youngest: the others have their models in memory."""
    return sorted(replicas, key=lambda each: (_serves(each, now), -each.began_at.timestamp()))


def _starts(fleet: Fleet, now: datetime) -> int:
    """How many are started: what is missing, and one for the next that is outdated. After a failure one at a time, later."""
    here = live(fleet)
    fresh = [each for each in here if not _is_outdated(fleet, each, now)]
    count = target(fleet)
    room = count + (len(fresh) < len(here)) - len(here)
    missing = max(min(room, count - len(fresh)), 0)
    if _pauses(fleet, now):
        return 0
    return min(missing, 1) if fleet.failures else missing


def _serves(replica: Replica, now: datetime) -> bool:
    return replica.heard_at is not None and now - replica.heard_at <= HEARD_WITHIN


def _is_outdated(fleet: Fleet, replica: Replica, now: datetime) -> bool:
    is_old = now - replica.began_at > timedelta(seconds=fleet.spec.replace_after_seconds)
    return replica.revision != fleet.revision or is_old


def _without(fleet: Fleet, leaving: Sequence[tuple[str, str]], now: datetime) -> Fleet:
    """As it will be once these were asked to end."""
    for job_id, because in leaving:
        fleet = with_leaving(fleet, job_id, because, now)
    return fleet


_FLEET = TypeAdapter(Fleet)


def fleet_of(request: ServingInput) -> Fleet:
    """What was remembered, or a set that has nothing yet."""
    return _FLEET.validate_python(request.so_far, strict=False) if request.so_far else Fleet(request.spec)


def serving_going_on(request: ServingInput, fleet: Fleet) -> ServingInput:
    """The input with which a new history goes on."""
    return request.model_copy(update={"spec": fleet.spec, "so_far": _FLEET.dump_python(fleet, mode="json")})
