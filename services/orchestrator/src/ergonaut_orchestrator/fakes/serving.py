"""A gateway in memory: endpoints whose requests go where the weights say, and models with their aliases."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from numpy.typing import NDArray

from ergonaut.errors import Conflict, NotFound, Refused, Unavailable
from ergonaut_orchestrator.domain.rollouts import Endpoint, Figures, Route, RouteFigures, Versions
from ergonaut_orchestrator.domain.trials import Lineage, Question
from ergonaut_orchestrator.ports import Upload


@dataclass(frozen=True, slots=True)
class Rates:
    """How a version does: shares of its requests."""

    failed: float = 0.0
    slow: float = 0.0
    wrong: float = 0.0


class FakeServedModels:
    """Models, their versions and aliases."""

    def __init__(self) -> None:
        self.models: dict[tuple[str, str], Versions] = {}
        self.away_for = 0
        """Calls that are not answered."""
        self.forgets_answers = 0
        """Changes that are made and whose answers are lost."""
        self.files: dict[tuple[str, str, int], bytes] = {}
        self.uploads: list[Upload] = []
        self.says: Callable[[int, NDArray[Any]], NDArray[Any]] = lambda _, rows: rows[:, 0]
        """What a version answers to rows."""

    async def versions(self, tenant: str, model: str) -> Versions:
        self._answer()
        if (tenant, model) not in self.models:
            raise NotFound(f"no model {model} is served")
        return self.models[tenant, model]

    async def name(self, tenant: str, model: str, alias: str, version: int, *, expected: int | None) -> None:
        known = await self.versions(tenant, model)
        if expected is not None and known.aliases.get(alias, 0) != expected:
            raise Conflict(f"alias {alias} of model {model} names another version than {expected}")
        if version not in known.kept:
            raise NotFound(f"version {version} of model {model} is not served")
        aliases = {**known.aliases, alias: version}
        default = aliases.get("champion", known.default)
        self.models[tenant, model] = replace(known, aliases=aliases, default=default)
        if self.forgets_answers:
            self.forgets_answers -= 1
            raise Unavailable("the answer was lost")

    async def unname(self, tenant: str, model: str, alias: str, *, expected: int) -> None:
        known = await self.versions(tenant, model)
        if known.aliases.get(alias) != expected:
            raise Conflict(f"alias {alias} of model {model} does not name {expected}")
        aliases = {name: version for name, version in known.aliases.items() if name != alias}
        self.models[tenant, model] = replace(known, aliases=aliases)

    async def deploy(self, upload: Upload, content: BinaryIO) -> int:
        self._answer()
        file = content.read()
        if not file.startswith(b"model"):
            raise Refused("is not an ONNX model", field="chunk")
        key = (upload.tenant, upload.model)
        known = self.models.get(key, Versions((), {}))
        if self.files.get((*key, known.kept[-1] if known.kept else 0)) == file:
            number = known.kept[-1]
        else:
            number = max(known.kept, default=0) + 1
            self.uploads.append(upload)
        self.files[*key, number] = file
        champion = {"champion": known.default} if known.default else {}
        aliases = {**champion, **known.aliases, upload.alias: number}
        kept = tuple(sorted({*known.kept, number}))
        self.models[key] = Versions(kept, aliases, aliases.get("champion", number))
        if self.forgets_answers:
            self.forgets_answers -= 1
            raise Unavailable("the answer was lost")
        return number

    async def ask(self, tenant: str, model: str, version: int, question: Question) -> NDArray[Any]:
        self._answer()
        if version not in self.models[tenant, model].kept:
            raise NotFound(f"version {version} of model {model} is not served")
        return self.says(version, question.rows)

    def _answer(self) -> None:
        if self.away_for:
            self.away_for -= 1
            raise Unavailable("the gateway is away")


class FakeLineages:
    """What runs used; the ledger hears of a run after as many questions as the test says."""

    def __init__(self, lineage: Lineage | None = None) -> None:
        self.lineage = lineage
        self.asked: list[tuple[str, str]] = []
        self.late_for = 0
        self.is_away = False

    async def of_run(self, tenant: str, run_id: str) -> Lineage | None:
        self.asked.append((tenant, run_id))
        if self.is_away:
            raise Unavailable("the ledger is away")
        if self.late_for:
            self.late_for -= 1
            return None
        return self.lineage


class FakeTraffic:
    """Endpoints; each look at the figures sees some more requests."""

    def __init__(self, models: FakeServedModels) -> None:
        self.endpoints: dict[tuple[str, str], Endpoint] = {}
        self.rates: dict[tuple[str, int], Rates] = {}
        self.requests_per_look = 2_000
        self.labelled_share = 0.0
        self.applied: list[Endpoint] = []
        self.reasons: list[str] = []
        self.away_for = 0
        """Calls that are not answered."""
        self.forgets_answers = 0
        """Changes that are made and whose answers are lost."""
        self.refuses = ""
        """Why no change is made; empty where they are."""
        self.splits: Callable[[Route], float] = lambda route: route.weight
        self.on_figures: Callable[[], None] = lambda: None
        self._models = models
        self._counts: dict[tuple[str, str], dict[str, RouteFigures]] = {}

    async def endpoint(self, tenant: str, name: str) -> Endpoint:
        self._answer()
        if (tenant, name) not in self.endpoints:
            raise NotFound(f"there is no endpoint {name}")
        return self.endpoints[tenant, name]

    async def apply(self, tenant: str, endpoint: Endpoint, *, expected_revision: int, because: str) -> Endpoint:
        self._answer()
        self.reasons.append(because)
        key = (tenant, endpoint.name)
        now = self.endpoints[key].revision if key in self.endpoints else 0
        if now != expected_revision:
            raise Conflict(f"{endpoint.name} has revision {now}, not {expected_revision}")
        if self.refuses:
            raise Refused(self.refuses)
        made = replace(endpoint, revision=now + 1)
        self.endpoints[key] = made
        self.applied.append(made)
        self._counts[key] = {}
        if self.forgets_answers:
            self.forgets_answers -= 1
            raise Unavailable("the answer was lost")
        return made

    async def figures(self, tenant: str, name: str) -> Figures:
        self._answer()
        self.on_figures()
        endpoint = self.endpoints.get((tenant, name))
        if endpoint is None:
            raise NotFound(f"there is no endpoint {name}")
        counts = self._counts.setdefault((tenant, name), {})
        total = sum(self.splits(route) for route in endpoint.routes)
        for route in endpoint.routes:
            requests = round(self.requests_per_look * self.splits(route) / total)
            counts[route.name] = self._more(counts.get(route.name, RouteFigures()), tenant, route, requests)
        return Figures(endpoint.revision, dict(counts))

    def person_applies(self, tenant: str, endpoint: Endpoint) -> None:
        """Somebody else changes an endpoint."""
        revision = self.endpoints[tenant, endpoint.name].revision + 1
        self.endpoints[tenant, endpoint.name] = replace(endpoint, revision=revision)
        self._counts[tenant, endpoint.name] = {}

    def _more(self, known: RouteFigures, tenant: str, route: Route, requests: int) -> RouteFigures:
        rates = self.rates.get(
            (route.model, self._models.models[tenant, route.model].number_of(route.version)), Rates()
        )
        total = known.requests + requests
        labelled = round(total * self.labelled_share)
        return RouteFigures(
            requests=total,
            drawn=total,
            failed=round(total * rates.failed),
            slow=round(total * rates.slow),
            labelled=labelled,
            wrong=round(labelled * rates.wrong),
        )

    def _answer(self) -> None:
        if self.away_for:
            self.away_for -= 1
            raise Unavailable("the gateway is away")
