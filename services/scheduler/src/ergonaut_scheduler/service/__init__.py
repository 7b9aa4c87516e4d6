"""The scheduler's use cases: take jobs in, plan them, follow their runs, tell how they stand."""

from ergonaut_scheduler.service.following import Following
from ergonaut_scheduler.service.pausing import Pausing
from ergonaut_scheduler.service.planning import Planning, Rules
from ergonaut_scheduler.service.reading import Reading
from ergonaut_scheduler.service.spending import Spending
from ergonaut_scheduler.service.submitting import Submitting
from ergonaut_scheduler.service.world import World

__all__ = ["Following", "Pausing", "Planning", "Reading", "Rules", "Scheduling", "Spending", "Submitting", "World"]


class Scheduling:
    """All use cases over one world; the doors call these."""

    def __init__(self, world: World, rules: Rules) -> None:
        self.spending = Spending(world.clock)
        self.planning = Planning(world, rules, self.spending)
        self.submitting = Submitting(world, self.planning)
        self.pausing = Pausing(world)
        self.following = Following(world, self.submitting)
        self.reading = Reading(world)
