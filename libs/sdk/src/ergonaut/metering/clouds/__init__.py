"""What the clouds tell their own machines about where they stand. Each file beside this one asks one cloud's metadata service.

A cloud is added by a file with a `Cloud` and its name in `known_clouds`. All of them listen on the same link-local address,
which never leaves the machine's own network, so that asking the wrong one tells nobody anything.
"""

from ergonaut.metering.clouds.asking import Cloud, Found, MetadataService, Pue, ask_all

__all__ = ["Cloud", "Found", "MetadataService", "Pue", "ask_all", "known_clouds"]


def known_clouds() -> tuple[Cloud, ...]:
    """Every cloud that can be asked."""
    from ergonaut.metering.clouds import aws, azure, gcp, hetzner

    return (aws.CLOUD, gcp.CLOUD, azure.CLOUD, hetzner.CLOUD)
