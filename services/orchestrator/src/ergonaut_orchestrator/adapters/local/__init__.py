"""The provider `local`: a lease is a folder on this machine, a run a process group under a runner of its own."""

from ergonaut_orchestrator.adapters.local.folder import LocalLimits
from ergonaut_orchestrator.adapters.local.provider import LocalProvider

__all__ = ["LocalLimits", "LocalProvider"]
