"""The orchestrator's use cases: get and give back leases, start and watch runs, keep their files, pass wishes on."""

from ergonaut_orchestrator.service.desk import Desk
from ergonaut_orchestrator.service.fleets import Fleets
from ergonaut_orchestrator.service.judging import Judging
from ergonaut_orchestrator.service.keeping import Keeping
from ergonaut_orchestrator.service.leasing import Leasing
from ergonaut_orchestrator.service.noticing import Noticing
from ergonaut_orchestrator.service.phases import Told
from ergonaut_orchestrator.service.rolling_out import AliasMove, RollingOut, RouteChange
from ergonaut_orchestrator.service.running import Running
from ergonaut_orchestrator.service.serving_desk import ServingDesk
from ergonaut_orchestrator.service.steering import Steering
from ergonaut_orchestrator.service.world import Bounds, StopRequest, World

__all__ = [
    "AliasMove",
    "Bounds",
    "Desk",
    "Fleets",
    "Judging",
    "Keeping",
    "Leasing",
    "Noticing",
    "RollingOut",
    "RouteChange",
    "Running",
    "ServingDesk",
    "Steering",
    "StopRequest",
    "Told",
    "World",
]
