"""The whole system on one machine: `ergonaut up` starts it under a supervisor, `ergonaut down` stops it and loses nothing.

up ── starts ──▶ supervisor ── starts, watches, restarts ──▶ nats-server, temporal, every installed service
"""

from ergonaut.local.control import PartStatus, down, is_running, status, up
from ergonaut.local.home import Addresses, Home

__all__ = ["Addresses", "Home", "PartStatus", "down", "is_running", "status", "up"]
