"""Exports runs to TensorBoard as scalars over seconds since the run began, by TensorBoard's own writer, without torch."""

import os
import time
from pathlib import Path
from typing import Any

from ergonaut.integrations.figures import facts_of, figures_of
from ergonaut.tracking.exporting import needed
from ergonaut.tracking.summary import RunSummary

FOLDER_VARIABLE = "ERGONAUT_TENSORBOARD_FOLDER"
_FOLDER = "runs"
_EXTRA = "tensorboard"


class TensorBoardExporter:
    """Writes event files to `FOLDER/RUN`; the folder is the one given, else ERGONAUT_TENSORBOARD_FOLDER, else `runs`."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(os.environ.get(FOLDER_VARIABLE, "") or _FOLDER)
        self._writer: Any = None

    def begin(self, summary: RunSummary) -> None:
        """Open the file. Raises Refused without tensorboard."""
        writers = needed("tensorboard.summary.writer.event_file_writer", _EXTRA)
        self._writer = writers.EventFileWriter(str(self._folder / summary.run_id))

    def progress(self, summary: RunSummary) -> None:
        message = needed("tensorboard.compat.proto.summary_pb2", _EXTRA).Summary
        values = [message.Value(tag=name, simple_value=value) for name, value in figures_of(summary).items()]
        self._add(summary, message(value=values))
        self._writer.flush()

    def finish(self, summary: RunSummary) -> None:
        self.progress(summary)
        self._add(summary, _text(facts_of(summary)))
        self._writer.close()

    def _add(self, summary: RunSummary, message: Any) -> None:
        event = needed("tensorboard.compat.proto.event_pb2", _EXTRA).Event
        step = round(summary.duration_seconds)
        self._writer.add_event(event(wall_time=time.time(), step=step, summary=message))


def _text(facts: Any) -> Any:
    """The facts as the text plugin shows them, a table."""
    text_summary = needed("tensorboard.plugins.text.metadata", _EXTRA)
    protos = needed("tensorboard.compat.proto.summary_pb2", _EXTRA)
    tensors = needed("tensorboard.compat.proto.tensor_pb2", _EXTRA)
    types = needed("tensorboard.compat.proto.types_pb2", _EXTRA)
    table = "\n".join(["| fact | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())])
    tensor = tensors.TensorProto(dtype=types.DT_STRING, string_val=[table.encode()])
    metadata = text_summary.create_summary_metadata(display_name="ergonaut", description="")
    return protos.Summary(value=[protos.Summary.Value(tag="ergonaut/facts", tensor=tensor, metadata=metadata)])
