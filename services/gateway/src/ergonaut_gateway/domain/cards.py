"""The card of a version: what it is, where it comes from and what making it used, rendered from its record alone."""

import json
from collections.abc import Iterator
from typing import Any

from ergonaut_gateway.domain.models import Model, ModelRecord, TensorSpec, Used

NOT_TOLD = "not told"


def card_json(model: Model, record: ModelRecord) -> str:
    """The card for programs; what nobody told is null."""
    lineage, used = record.lineage, record.lineage.used
    document: dict[str, Any] = {
        "name": record.name,
        "version": record.version,
        "aliases": list(model.aliases_of(record.version)),
        "state": str(record.state),
        "digest": record.digest,
        "size_bytes": record.size_bytes,
        "inputs": [_tensor(spec) for spec in record.signature.inputs],
        "outputs": [_tensor(spec) for spec in record.signature.outputs],
        "deployed_at": record.deployed_at.isoformat(),
        "deployed_by": lineage.deployed_by or None,
        "framework": lineage.framework or None,
        "training": {
            "run_id": record.run_id or None,
            "data_digest": lineage.data_digest or None,
            "energy_joules": used.energy_joules,
            "energy_joules_range": used.energy_joules_range,
            "carbon_grams_co2e": used.carbon_grams_co2e,
            "carbon_grams_co2e_range": used.carbon_grams_co2e_range,
            "cost_usd": used.cost_usd,
            "cost_usd_range": used.cost_usd_range,
        },
        "signature": {"is_signed": bool(record.signature_bundle), "signed_by": record.signed_by or None},
    }
    return json.dumps(document, indent=2)


def card_markdown(model: Model, record: ModelRecord) -> str:
    """The card for people, with the metadata that model hubs read at its head."""
    return "\n".join([*_head(record), *_facts(model, record), *_training(record), *_tensors(record)]) + "\n"


def _head(record: ModelRecord) -> Iterator[str]:
    """Metadata as https://huggingface.co/docs/hub/model-cards-co2 wants it: emissions are grams."""
    yield "---"
    yield "library_name: onnx"
    grams = record.lineage.used.carbon_grams_co2e
    if grams is not None:
        yield "co2_eq_emissions:"
        yield f"  emissions: {grams!r}"
        yield f"  source: {json.dumps(f'measured by Ergonaut, run {record.run_id}' if record.run_id else 'told at deployment')}"
        yield "  training_type: training"
    yield "---"
    yield ""


def _facts(model: Model, record: ModelRecord) -> Iterator[str]:
    aliases = model.aliases_of(record.version)
    yield f"# {record.name}, version {record.version}" + (f" ({', '.join(aliases)})" if aliases else "")
    yield ""
    yield f"- State: {record.state}"
    deployer = f" by {_plain(record.lineage.deployed_by)}" if record.lineage.deployed_by else ""
    yield f"- Deployed: {record.deployed_at:%Y-%m-%d %H:%M:%S} UTC{deployer}"
    yield f"- File: {record.size_bytes:,} bytes, `{record.digest}`"
    yield f"- Framework: {_plain(record.lineage.framework) or NOT_TOLD}"
    yield f"- Signature: {_signed(record)}"
    yield ""


def _training(record: ModelRecord) -> Iterator[str]:
    yield "## What training it used"
    yield ""
    yield f"- Run: {f'`{record.run_id}`' if record.run_id else NOT_TOLD}"
    yield f"- Data: {_plain(record.lineage.data_digest) or NOT_TOLD}"
    for label, told in _figures(record.lineage.used):
        yield f"- {label}: {told}"
    yield ""


def _figures(used: Used) -> Iterator[tuple[str, str]]:
    # Here, since reports take 45 ms to import and few ask for a card.
    from ergonaut.reports import numbers
    from ergonaut.reports.numbers import Figure

    for label, write, value, plus_minus in (
        ("Energy", numbers.energy_figure, used.energy_joules, used.energy_joules_range),
        ("Carbon (CO2e)", numbers.carbon_figure, used.carbon_grams_co2e, used.carbon_grams_co2e_range),
        ("Cost", numbers.money_figure, used.cost_usd, used.cost_usd_range),
    ):
        yield label, NOT_TOLD if value is None else write(Figure(value, plus_minus))


def _tensors(record: ModelRecord) -> Iterator[str]:
    yield "## What it takes and gives"
    yield ""
    yield "| | name | datatype | shape |"
    yield "|---|---|---|---|"
    for word, specs in (("takes", record.signature.inputs), ("gives", record.signature.outputs)):
        for spec in specs:
            yield f"| {word} | {_plain(spec.name)} | {spec.datatype} | {list(spec.shape)} |"


def _signed(record: ModelRecord) -> str:
    if not record.signature_bundle:
        return "none"
    return f"by the trusted key `{record.signed_by}`" if record.signed_by else "by a key that is not trusted here"


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _plain(text: str) -> str:
    """A text that somebody chose, so that it stays text in Markdown: one line, and no mark of it means anything."""
    return "".join(f"\\{each}" if each in "\\`*_{}[]<>#|!&" else each for each in " ".join(text.split()))
