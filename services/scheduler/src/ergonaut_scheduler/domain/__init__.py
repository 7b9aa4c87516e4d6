"""What the scheduler knows without asking anybody: what a job would use where and when, what to choose, how a job's life goes."""

from ergonaut_scheduler.domain.choosing import plan
from ergonaut_scheduler.domain.offers import Forecast, Offer
from ergonaut_scheduler.domain.records import JobRecord
from ergonaut_scheduler.domain.weighing import CANDIDATES_MAX, STARTS_MAX, Supply

__all__ = ["CANDIDATES_MAX", "STARTS_MAX", "Forecast", "JobRecord", "Offer", "Supply", "plan"]
