"""Retrainings: models that were trained again, and what came of it. Emitted by `orchestrator`."""

from typing import ClassVar

from pydantic import AwareDatetime, Field

from ergonaut.events.base import Event, Name


class RetrainingFinished(Event):
    """A model was trained again; the new version took over, or not, and why."""

    TYPE: ClassVar[str] = "models.retraining.finished"

    model: Name
    trigger: str = Field(description="hand, drift or time.")
    wanted_because: str = ""
    state: str = Field(description="promoted, turned-down, rolled-back, failed or cancelled.")
    because: str = ""
    job_id: str = ""
    run_id: str = Field(
        default="", description="The run that trained it; its joules, grams and dollars are in the ledger."
    )
    champion_version: int = Field(default=0, ge=0, description="0: there was none, or it did not come so far.")
    challenger_version: int = Field(default=0, ge=0, description="0: it did not come so far.")
    metric: str = Field(default="", description="accuracy, rmse or log_loss; empty where nothing was compared.")
    rows: int = Field(default=0, ge=0)
    champion: float | None = Field(
        default=None, description="The metric of the version before; unset where not compared."
    )
    challenger: float | None = Field(default=None, description="The metric of the new one.")
    better_rows: int = Field(default=0, ge=0, description="Rows on which the new version did better.")
    worse_rows: int = Field(default=0, ge=0)
    p_value: float = Field(default=1.0, ge=0, le=1, description="Of being so much better by luck alone; a paired test.")
    began_at: AwareDatetime
    ended_at: AwareDatetime

    @property
    def key(self) -> str:
        return self.model
