"""The order of the steps from a file to a service; each step's work lies in a module of its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ergonaut.create.apart import Bounds
from ergonaut.create.options import CreateOptions
from ergonaut.create.sources import Reference, Source, converted, recognised
from ergonaut.create.tensors import Array, row_count, taken
from ergonaut.errors import Refused

if TYPE_CHECKING:
    from ergonaut.create.inspection import Inspection
    from ergonaut.create.smoke import Trial

CALIBRATION_ROWS_MAX = 512
"""Ranges do not move beyond some hundreds of rows, and each is run."""

GATE_ROWS_MAX = 20_000
"""Rows over which int8 is judged; a share of one in a thousand is seen well."""

DONE, SKIPPED, WARNED = "done", "skipped", "warned"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step came to: a sentence for people, figures for programs."""

    name: str
    state: str
    words: str
    seconds: float
    figures: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        told = {"step": self.name, "state": self.state, "told": self.words, "seconds": round(self.seconds, 3)}
        return {**told, **self.figures}


class Telling:
    """Hears how it goes, and answers questions; this one is silent and answers each as it was told to."""

    def __init__(self, *, answer: bool = False) -> None:
        self._answer = answer

    def begun(self, name: str) -> None:
        """A step begins."""

    def ended(self, step: Step) -> None:
        """A step has ended."""

    def agreed(self, question: str) -> bool:  # noqa: ARG002 - one that asks a person needs it
        """Whether a change that is offered shall be made."""
        return self._answer


@dataclass(slots=True)
class Outcome:
    """All that came of it."""

    name: str
    steps: list[Step] = field(default_factory=list)
    version: int = 0
    url: str = ""
    curl: str = ""
    python: str = ""
    page: str = ""
    """Where a person can try it."""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        told = {
            "name": self.name,
            "version": self.version,
            "url": self.url,
            "page": self.page,
            "seconds": round(self.seconds, 3),
        }
        return {**told, "curl": self.curl, "python": self.python, "steps": [step.as_dict() for step in self.steps]}


Told = tuple[str, str, dict[str, Any]]
"""A step's state, words and figures."""


def create(options: CreateOptions, telling: Telling) -> Outcome:
    """Make a service of a model. Raises Refused, NotFound or Unavailable, naming what is in the way and what to do."""
    began = time.monotonic()
    with TemporaryDirectory(prefix="ergonaut-create-") as folder:
        outcome = _Creation(options, telling, Path(folder)).run()
    outcome.seconds = time.monotonic() - began
    return outcome


class _Creation:
    """One creation: what is known so far, and the steps."""

    inspection: "Inspection"
    trial: "Trial"
    source: Source

    def __init__(self, options: CreateOptions, telling: Telling, folder: Path) -> None:
        self.options = options
        self.telling = telling
        self.folder = folder
        self.bounds = Bounds(options.timeout_seconds, options.memory_mib_max)
        self.outcome = Outcome(options.served_name)
        self.model = folder / "model.onnx"
        self.reference: Reference | None = None
        self.example: dict[str, Array] | None = None
        self.signature = ""

    def run(self) -> Outcome:
        options = self.options
        self._step("recognise", self._recognise)
        self._step("validate", self._validate)
        self._step("try", self._try)
        if self.inspection.is_batch_fixed:
            self._step("free batch", self._free_batch)
        if self.reference is not None:
            self._step("compare", self._compare)
        if options.optimise != "off":
            self._step("optimise", self._optimise)
        if options.quantise != "off":
            self._step("quantise", self._quantise)
        if options.sign_key is not None:
            self._step("sign", self._sign)
        if options.output is not None:
            self._step("write", self._write)
        if options.export is not None:
            self._step("export", self._export)
        if options.serve:
            self._step("serve", self._serve)
            self._step("predict", self._predict)
        return self.outcome

    def _step(self, name: str, work: Callable[[], Told]) -> None:
        began = time.monotonic()
        self.telling.begun(name)
        state, words, figures = work()
        step = Step(name, state, words, time.monotonic() - began, figures)
        self.outcome.steps.append(step)
        self.telling.ended(step)

    def _recognise(self) -> Told:
        self.source = recognised(self.options)
        self._check_wishes()
        path, self.reference = converted(self.source, self.options, self.folder, self.bounds)
        self._raw = path
        return DONE, self.source.in_words(), {"kind": self.source.kind}

    def _check_wishes(self) -> None:
        """What can be refused before the work is refused before it."""
        options = self.options
        if options.quantise != "off" and options.example is None:
            raise Refused("int8 is judged on your data; give some hundred rows", field="--example")
        if options.labels is not None and options.example is None:
            raise Refused("are of no use without the rows that they belong to; give --example", field="--labels")
        if options.export is not None:
            from ergonaut.create.exporting import ensure_own

            ensure_own(options.export, force=options.force)
        if options.serve:
            from ergonaut.create.serving import ensure_reachable

            ensure_reachable()

    def _validate(self) -> Told:
        from ergonaut.create.apart import apart
        from ergonaut.create.changes import to_bytes, without_maps
        from ergonaut.create.feeds import read_example
        from ergonaut.create.inspection import SERVED_BYTES_MAX, inspect, map_outputs, read_model

        model = read_model(self._raw)
        maps = map_outputs(model)
        if maps and self._wanted(self.options.drop_maps, f"Give {', '.join(maps)} as a tensor? It is a map now"):
            model = without_maps(model)
        self.inspection = inspect(model)
        self.model.write_bytes(to_bytes(model))
        apart("check", {"model": self.model}, self.bounds)
        if self.options.example is not None:
            self.example = read_example(self.options.example, self.inspection.inputs)
        size = self.inspection.size_bytes
        opset = self.inspection.opsets.get("ai.onnx", 0)
        words = f"opset {opset}, {size:,} bytes, made by {self.inspection.producer}"
        if maps:
            words += f"; {', '.join(maps)} given as a tensor"
        if size > SERVED_BYTES_MAX:
            words += "; larger than the gateway takes unless ERGONAUT_GATEWAY_MODEL_BYTES_MAX is raised"
        return WARNED if size > SERVED_BYTES_MAX else DONE, words, self._signature_figures()

    def _signature_figures(self) -> dict[str, Any]:
        found = self.inspection
        return {
            "opsets": found.opsets,
            "bytes": found.size_bytes,
            "inputs": [spec.as_dict() for spec in found.inputs],
            "outputs": [spec.as_dict() for spec in found.outputs],
        }

    def _try(self) -> Told:
        from ergonaut.create.smoke import tried

        example = self.example
        if example is None and self.reference is not None:
            example = self.reference.feed
        self.trial = tried(self.model, self.inspection.inputs, example, self.folder, self.bounds)
        given = "drawn inputs" if self.example is None else "your inputs"
        words = f"{self.trial.seconds_median * 1e6:,.0f} us a run on {given}"
        state = DONE
        if self.trial.not_finite:
            worst = ", ".join(f"{each.not_finite} of {each.values} of {each.name}" for each in self.trial.not_finite)
            if self.example is not None:
                raise Refused(f"the model gives NaN or infinity on your inputs: {worst}; mend the model or the inputs")
            state, words = WARNED, f"{words}; NaN or infinite: {worst}; try real ones by --example"
        if not self.trial.deterministic:
            state, words = WARNED, f"{words}; the same inputs give other outputs each time"
        figures = {
            "seconds_median": self.trial.seconds_median,
            "deterministic": self.trial.deterministic,
            "inputs_given": self.example is not None,
            "outputs": [each.as_dict() for each in self.trial.outputs],
        }
        return state, words, figures

    def _free_batch(self) -> Told:
        from ergonaut.create.changes import to_bytes, with_free_batch
        from ergonaut.create.inspection import inspect, read_model
        from ergonaut.create.smoke import frees_batch

        freed = with_free_batch(read_model(self.model))
        path = self.folder / "freed.onnx"
        path.write_bytes(to_bytes(freed))
        why_not = frees_batch(self.model, path, self.inspection.inputs, self.folder, self.bounds)
        if why_not:
            return SKIPPED, f"one row a call: the graph itself is fixed to it ({why_not})", {"freed": False}
        if not self._wanted(self.options.free_batch, "The batch axis is fixed at 1 and could be free. Free it?"):
            return SKIPPED, "left at one row a call; --free-batch would let callers send many at once", {"freed": False}
        self.model, self.inspection = path, inspect(freed)
        return DONE, "callers may send many rows at once; three rows gave what each gave alone", {"freed": True}

    def _wanted(self, told: bool | None, question: str) -> bool:
        return self.telling.agreed(question) if told is None else told

    def _compare(self) -> Told:
        from ergonaut.create.apart import apart
        from ergonaut.create.comparing import Tolerance, agree, compared, in_words
        from ergonaut.create.feeds import read_feed, write_feed

        assert self.reference is not None
        feed, out = self.folder / "compared-feed.npz", self.folder / "compared.npz"
        write_feed(feed, self.reference.feed)
        apart(
            "rows",
            {"model": self.model, "feeds": [feed], "outputs": out, "chunk_rows": self._rows_at_once()},
            self.bounds,
        )
        ours, theirs = read_feed(out), self.reference.outputs
        shared = {name: ours[name] for name in theirs if name in ours}
        # A figure a row comes as a column from some converters and as a list from their source.
        shaped = {
            name: theirs[name].reshape(value.shape) if theirs[name].size == value.size else theirs[name]
            for name, value in shared.items()
        }
        differences = compared(shared, shaped, Tolerance(self.options.absolute_max, self.options.relative_max))
        words = f"{in_words(differences)}, over {row_count(self.reference.feed)} rows"
        if not agree(differences, unlike_share_max=self.options.unlike_share_max):
            told = "the ONNX file does not compute what its source does"
            raise Refused(f"{told}: {words}; --absolute, --relative and --unlike set the bounds")
        return DONE, words, {"differences": [each.as_dict() for each in differences]}

    def _optimise(self) -> Told:
        from ergonaut.create.optimising import optimised

        out = self.folder / "optimised.onnx"
        result = optimised(self.model, out, self.options.optimise, self.trial.feed, self.bounds)
        figures = {
            "kept": result.kept,
            "seconds_before": result.seconds_before,
            "seconds_after": result.seconds_after,
        }
        if not result.kept:
            return SKIPPED, f"kept as it was: {result.why}", figures
        self.model = out
        return DONE, f"{self.options.optimise}: {result.why}", figures

    def _quantise(self) -> Told:
        from ergonaut.create.feeds import read_example, read_labels
        from ergonaut.create.quantising import Evidence, Gate, quantised

        assert self.example is not None
        rows = taken(self.example, slice(0, GATE_ROWS_MAX)) if row_count(self.example) > 1 else self.example
        labels = read_labels(self.options.labels, row_count(self.example)) if self.options.labels else None
        calibration = rows
        if self.options.calibration is not None:
            calibration = read_example(self.options.calibration, self.inspection.inputs, option="--calibration")
        if row_count(calibration) > 1:
            calibration = taken(calibration, slice(0, CALIBRATION_ROWS_MAX))
        out = self.folder / "int8.onnx"
        evidence = Evidence(
            rows, calibration, labels[:GATE_ROWS_MAX] if labels is not None else None, self._rows_at_once()
        )
        result = quantised(self.model, out, self.options.quantise, evidence, self.bounds)
        refusal = result.refusal(Gate(self.options.accuracy_drop_max, self.options.agreement_min))
        if refusal:
            raise Refused(f"int8 changes too much: {refusal}; try --quantise static, more data, or leave it out")
        self.model = out
        figures = {
            "rows": result.rows,
            "agreement": result.agreement,
            "accuracy_before": result.accuracy_before,
            "accuracy_after": result.accuracy_after,
            "bytes_before": result.bytes_before,
            "bytes_after": result.bytes_after,
        }
        return DONE, f"{self.options.quantise} int8: {result.in_words()}", figures

    def _rows_at_once(self) -> int:
        from ergonaut.create.tasks import CHUNK_ROWS

        fixed = [spec.axes[0] for spec in self.inspection.inputs if spec.axes and isinstance(spec.axes[0], int)]
        return int(fixed[0]) if fixed else CHUNK_ROWS

    def _sign(self) -> Told:
        from ergonaut.create.sources import needed
        from ergonaut.signing import sign

        assert self.options.sign_key is not None
        needed("cryptography")
        # A signature names the file; a person who checks it should know that name again.
        named = self.folder / "signed" / f"{self.outcome.name}.onnx"
        named.parent.mkdir()
        self.model = self.model.rename(named)
        self.signature = sign(self.model, self.options.sign_key)
        return DONE, f"signed by {self.options.sign_key}", {"key": str(self.options.sign_key)}

    def _write(self) -> Told:
        assert self.options.output is not None
        written = [self.options.output]
        try:
            self.options.output.write_bytes(self.model.read_bytes())
            if self.signature:
                written.append(self.options.output.with_name(f"{self.options.output.name}.sig"))
                written[1].write_text(self.signature)
        except OSError as error:
            raise Refused(f"{self.options.output} cannot be written: {error.strerror}", field="--output") from error
        return DONE, ", ".join(map(str, written)), {"files": [str(path) for path in written]}

    def _export(self) -> Told:
        from ergonaut.create.exporting import Project, export

        assert self.options.export is not None
        found = self.inspection
        model = self.model.read_bytes()
        project = Project(self.outcome.name, found.inputs, found.outputs, model, self.signature, found.notes)
        files = export(project, self.options.export, force=self.options.force)
        return DONE, f"{len(files)} files in {self.options.export}", {"files": files}

    def _serve(self) -> Told:
        from ergonaut.create.calling import curl, python
        from ergonaut.create.serving import key_in_shell, serve

        outcome, inputs = self.outcome, self.inspection.inputs
        served = serve(self.model, outcome.name, run_id=self.options.run, signature=self.signature)
        outcome.version, outcome.url, outcome.page = served.version, served.url, served.page
        outcome.curl, outcome.python = curl(outcome.url, inputs, key_in_shell()), python(outcome.name, inputs)
        words = f"version {outcome.version} at {outcome.url}"
        figures = {"version": outcome.version, "url": outcome.url}
        return (WARNED, f"{words}; {served.untold}", figures) if served.untold else (DONE, words, figures)

    def _predict(self) -> Told:
        from ergonaut.create.serving import first_prediction

        outputs = first_prediction(self.outcome.name, self.inspection.inputs, self.trial.feed)
        words = ", ".join(f"{each['name']} {each['datatype']} {each['shape']}" for each in outputs)
        return DONE, f"the gateway answers with {words}", {"outputs": outputs}
