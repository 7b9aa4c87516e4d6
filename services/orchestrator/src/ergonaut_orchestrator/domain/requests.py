"""What comes in: whether a workflow's input can be taken."""

import re
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ergonaut.errors import Refused
from ergonaut.faults import field_errors
from ergonaut.ids import derived_id
from ergonaut.workflows import RunJobInput

Input = TypeVar("Input", bound=BaseModel)

NAME_LENGTH_MAX = 63


def accepted_request(given: bytes, *, workflow_id: str, now: datetime) -> RunJobInput:
    """The input as typed values: its job id filled in, its memory left out. Raises Refused naming the field that is wrong."""
    request = accepted_input(RunJobInput, given)
    if request.so_far is None and request.job.deadline is not None and request.job.deadline <= now:
        raise Refused(f"{request.job.deadline.isoformat()} is in the past; give a later time", field="job.deadline")
    return request.model_copy(update={"job_id": request.job_id or job_id_from(workflow_id), "so_far": None})


def accepted_input(contract: type[Input], given: bytes) -> Input:
    """A workflow's input as typed values. Raises Refused naming each field that is wrong."""
    try:
        return contract.model_validate_json(given)
    except ValidationError as error:
        problems = field_errors(error, contract)
        raise Refused("; ".join(f"{problem.field or 'input'}: {problem.message}" for problem in problems)) from error


def job_id_from(workflow_id: str) -> str:
    """A job id made of the last part of a workflow's id.

    >>> job_id_from("job/default/digits-1"), job_id_from("My Job_7")
    ('digits-1', 'my-job-7')
    """
    last = workflow_id.rpartition("/")[2]
    dashed = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:NAME_LENGTH_MAX].rstrip("-")
    return dashed or derived_id("job", workflow_id)
