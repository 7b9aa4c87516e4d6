"""What the model repository extension tells of a tenant's models, the same over both wires."""

from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.service import Catalogue


def ready_versions(catalogue: Catalogue, tenant: str, name: str = "") -> list[ModelRecord]:
    """The versions that are ready here, of one model or of all."""
    models = [model for model in catalogue.models(tenant) if name in ("", model.name)]
    return [record for model in models for record in model.kept if catalogue.is_current(record)]


def indexed(catalogue: Catalogue, tenant: str, *, only_ready: bool) -> list[dict[str, str]]:
    """All versions by `name`, `version`, `state` and `reason`."""
    told = [_entry(catalogue, record) for model in catalogue.models(tenant) for record in model.kept]
    return [each for each in told if each["state"] == "READY" or not only_ready]


def _entry(catalogue: Catalogue, record: ModelRecord) -> dict[str, str]:
    told = {"name": record.name, "version": str(record.version)}
    if not record.served:
        return told | {"state": "UNAVAILABLE", "reason": "unloaded"}
    if catalogue.is_current(record):
        return told | {"state": "READY", "reason": ""}
    return told | {"state": "UNAVAILABLE", "reason": "could not be loaded yet"}
