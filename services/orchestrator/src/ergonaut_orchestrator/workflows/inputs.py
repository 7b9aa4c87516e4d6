"""How workflows take their inputs: a wrong one fails the workflow at once, naming the field. For the workflows."""

from typing import TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from ergonaut.errors import Refused
    from ergonaut_orchestrator.domain import accepted_input
    from ergonaut_orchestrator.workflows.steps import refusal

Input = TypeVar("Input", bound=BaseModel)

NO_INPUT = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{}"))
"""What stands for an input that was not given; it is refused like any other that lacks a field."""


def accepted(contract: type[Input], given: RawValue) -> Input:
    """The input, or the workflow's immediate failure."""
    try:
        return accepted_input(contract, given.payload.data)
    except Refused as error:
        raise refusal(str(error)) from error
