"""What becomes of a trained model in the world: deployed as a challenger, asked beside the champion, turned down. All may be
repeated: the same file is the same version, and rows have the same answers."""

import asyncio
import contextlib

from ergonaut.errors import Conflict, NotFound, Unavailable
from ergonaut.events.retraining import RetrainingFinished
from ergonaut.retraining import CHALLENGER, Compared
from ergonaut_common.clock import Clock
from ergonaut_common.observe import get_logger
from ergonaut_orchestrator.domain.comparing import compared
from ergonaut_orchestrator.domain.trials import Deployed, Lineage, Question, Trained, Trial
from ergonaut_orchestrator.ports import Announcer, Artifacts, Lineages, ServedModels, Upload
from ergonaut_orchestrator.service.rows import read_rows

LINEAGE_LOOKS = 20
LINEAGE_PAUSE_SECONDS = 1.0
"""The ledger hears of a run's end within a second or two; a model must not wait for a ledger that is away."""

SIGNATURE_BYTES_MAX = 16 * 1024
"""As the gateway takes it."""

log = get_logger(__name__)


class Judging:
    """Puts trained models on trial."""

    def __init__(
        self, models: ServedModels, artifacts: Artifacts, lineages: Lineages, announcer: Announcer, clock: Clock
    ) -> None:
        self._models = models
        self._artifacts = artifacts
        self._lineages = lineages
        self._announcer = announcer
        self._clock = clock

    async def deploy(self, trained: Trained) -> Deployed:
        """Serve the file as the model's challenger, which leaves the default as it is. Raises Refused, NotFound, Unavailable."""
        tenant, model = trained.tenant, trained.model
        champion = await self._champion(tenant, model, trained.run_id)
        signature = ""
        if trained.signature_file:
            with await self._artifacts.fetch(tenant, trained.signature_file) as file:
                signature = file.read(SIGNATURE_BYTES_MAX).decode(errors="replace")
        lineage = await self._lineage(tenant, trained.run_id)
        upload = Upload(tenant, model, trained.run_id, CHALLENGER, lineage, signature)
        with await self._artifacts.fetch(tenant, trained.model_file) as content:
            challenger = await self._models.deploy(upload, content)
        return Deployed(challenger, champion)

    async def validate(self, trial: Trial) -> Compared:
        """Ask both versions the same rows. Raises Refused where rows or answers do not fit, NotFound, Unavailable."""
        with await self._artifacts.fetch(trial.tenant, trial.validation_file) as content:
            rows = await asyncio.to_thread(read_rows, content, trial.validation_file.partition("/")[2])
        question = Question(rows.x, trial.judging.input, trial.judging.output)
        answers = []
        for version in (trial.deployed.challenger, trial.deployed.champion):
            asked = self._models.ask(trial.tenant, trial.model, version, question) if version else None
            answers.append(await asked if asked is not None else None)
        challenger, champion = answers
        assert challenger is not None, "the new version has a number"
        return await asyncio.to_thread(compared, trial.judging.metric, rows.y, challenger, champion)

    async def turn_down(self, tenant: str, model: str, version: int) -> None:
        """The version is the challenger no longer; where it is not, nothing happens. Raises Unavailable."""
        try:
            await self._models.unname(tenant, model, CHALLENGER, expected=version)
        except (Conflict, NotFound) as error:
            log.info("challenger is not named any more", model=model, version=version, because=str(error))

    async def tell(self, event: RetrainingFinished) -> None:
        """Announce how a training ended."""
        await self._announcer.tell(event)

    async def _champion(self, tenant: str, model: str, run_id: str) -> int:
        """The version that serves who asks for none; a first one that is on trial itself does not count."""
        try:
            known = await self._models.versions(tenant, model)
            return 0 if known.aliases.get(CHALLENGER) == known.default else known.default
        except NotFound:
            log.info("model is deployed for the first time", model=model, run_id=run_id)
            return 0

    async def _lineage(self, tenant: str, run_id: str) -> Lineage:
        """What the run used; where the ledger does not say soon, or is away, that is left untold, which is not 0."""
        for _ in range(LINEAGE_LOOKS):
            with contextlib.suppress(Unavailable):
                if lineage := await self._lineages.of_run(tenant, run_id):
                    return lineage
            await self._clock.sleep(LINEAGE_PAUSE_SECONDS)
        log.warning("what a run used is not known", run_id=run_id)
        return Lineage()
