"""What the model repository extension tells of a tenant's models, the same over both wires."""

from ergonaut.errors import ErgonautError
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.service import Catalogue
from ergonaut_gateway.service.plans import Plan, Plans


def ready_versions(catalogue: Catalogue, tenant: str, name: str = "") -> list[ModelRecord]:
    """The versions that are ready here, of one model or of all."""
    models = [model for model in catalogue.models(tenant) if name in ("", model.name)]
    return [record for model in models for record in model.kept if catalogue.is_current(record)]


def indexed(catalogue: Catalogue, plans: Plans, tenant: str, *, only_ready: bool) -> list[dict[str, str]]:
    """All versions by `name`, `version`, `state` and `reason`; those of models, then those of plans that have one."""
    told = [_entry(catalogue, record) for model in catalogue.models(tenant) for record in model.kept]
    told += [_planned(name, plan) for (owner, name), plan in sorted(plans.items()) if owner == tenant and plan.version]
    return [each for each in told if each["state"] == "READY" or not only_ready]


def _planned(name: str, plan: Plan) -> dict[str, str]:
    told = {"name": name, "version": plan.version}
    try:
        record = plan.record
    except ErgonautError as error:
        return told | {"state": "UNAVAILABLE", "reason": str(error)}
    return told | {"name": record.name, "state": "READY", "reason": ""}


def _entry(catalogue: Catalogue, record: ModelRecord) -> dict[str, str]:
    told = {"name": record.name, "version": str(record.version)}
    if not record.served:
        return told | {"state": "UNAVAILABLE", "reason": "unloaded"}
    if catalogue.is_current(record):
        return told | {"state": "READY", "reason": ""}
    return told | {"state": "UNAVAILABLE", "reason": catalogue.problem(record)}
