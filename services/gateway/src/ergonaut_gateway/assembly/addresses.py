"""Where this gateway is reached, once its ports are known."""

from ergonaut_gateway.settings import Settings


def with_real_port(settings: Settings, grpc_port: int) -> Settings:
    """The settings, with the port that was picked where the advertised address has 0; replicas take any free port."""
    host, _, port = settings.advertised_address.rpartition(":")
    if not host or int(port) != 0:
        return settings
    return settings.model_copy(update={"advertised_address": f"{host}:{grpc_port}"})
