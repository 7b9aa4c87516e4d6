"""gRPC as services use it: doors with health, reflection, keys and clear errors; channels with deadlines and spans."""

from ergonaut_common.rpc.calls import caller, scope_needed
from ergonaut_common.rpc.client import channel, for_tenant
from ergonaut_common.rpc.errors import error_of, status_of
from ergonaut_common.rpc.server import RpcServer, serving

__all__ = ["RpcServer", "caller", "channel", "error_of", "for_tenant", "scope_needed", "serving", "status_of"]
