"""Whether a job can be kept and told as it was given: what fits into no message or no JSON is refused before anything happens."""

import math

from ergonaut.errors import FieldError, Refused
from ergonaut.jobs import JobSpec

SPEC_BYTES_MAX = 256 * 1024
"""A quarter of what NATS carries in one message, so that there is room for the plan and the figures beside it."""

BECAUSE_LETTERS_MAX = 1000
"""A reason is read by people, and travels in events and records."""


def check_reason(because: str) -> None:
    """Raise Refused where a reason is too long to be told."""
    if len(because) > BECAUSE_LETTERS_MAX:
        raise Refused(f"has {len(because)} letters; give {BECAUSE_LETTERS_MAX} at most", field="because")


def fault_of(spec: JobSpec) -> FieldError | None:
    """What is wrong with a job in itself, beyond what its type forbids; None where nothing is."""
    for field, limit in spec.budget:
        # JSON has no infinity: the limit would be gone once it is written, and the job another than the one given.
        if isinstance(limit, float) and not math.isfinite(limit):
            return FieldError(f"budget.{field}", "must be a finite number; leave it out for no limit")
    if len(spec.model_dump_json()) <= SPEC_BYTES_MAX:
        return None
    sizes = {field: len(spec.model_dump_json(include={field})) for field in type(spec).model_fields}
    largest = max(sizes, key=lambda field: sizes[field])
    told = f"the job is larger than {SPEC_BYTES_MAX >> 10} KiB, most of it here; put data into its files instead"
    return FieldError(largest, told)
