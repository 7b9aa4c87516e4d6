"""onnxruntime behind the ports `ModelLoader` and `Runner`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime

from ergonaut.errors import Refused, Unavailable
from ergonaut.openapi import CLASSES, FEATURES
from ergonaut_common.observe import get_logger
from ergonaut_gateway.adapters import bf16
from ergonaut_gateway.adapters.crews import Crew, beginning
from ergonaut_gateway.adapters.probes import GROWING, Probe, is_steady, names_one_of
from ergonaut_gateway.adapters.sessions import PROVIDERS, Arena, first_line, from_onnx, opened, signature_of, to_onnx
from ergonaut_gateway.domain.batching import Traits
from ergonaut_gateway.domain.models import Signature
from ergonaut_gateway.domain.tensors import BF16, BYTES, Tensor
from ergonaut_gateway.ports import Stop

log = get_logger(__name__)


_NO_ROOM = "Available memory of"
"""What the arena says where a run asks for more than is left of its bound."""

NOTE_CHARACTERS_MAX = 1 << 20
"""A list of names that is longer is not read."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """How models are run: on what, the preferred first, and with how many threads within one run."""

    providers: tuple[str, ...] = ("cpu",)
    intra_op_threads: int = 1
    memory_bytes_max: int = 0
    """That all runs together may take of models whose memory depends on values; 0 is any."""


class OnnxLoader:
    """Fills `ModelLoader`."""

    def __init__(self, sessions: Sessions | None = None) -> None:
        self._sessions = sessions or Sessions()
        self._providers = _providers(self._sessions.providers)

    async def load(self, path: Path) -> "OnnxRunner":
        return await asyncio.to_thread(self._load, path)

    def _load(self, path: Path) -> "OnnxRunner":
        threads, crew = self._sessions.intra_op_threads, None
        in_arena = self._sessions.memory_bytes_max > 0 and names_one_of(GROWING, path)
        if in_arena:
            Arena.make(self._sessions.memory_bytes_max)
        if threads == 1:
            session = opened(path, self._providers, threads, in_arena=in_arena)
        else:
            with beginning() as crew:
                session = opened(path, self._providers, threads, in_arena=in_arena)
        steady, signature = is_steady(path), signature_of(session)
        runner = OnnxRunner(session, signature, steady=steady, threads=threads, crew=crew, in_arena=in_arena)
        runner.try_out()
        return runner


class OnnxRunner:
    """Fills `Runner`."""

    def __init__(
        self,
        session: Any,
        signature: Signature,
        *,
        steady: bool,
        threads: int = 1,
        crew: Crew | None = None,
        in_arena: bool = False,
    ) -> None:
        self._session = session
        self._in_arena = in_arena
        self._crew = crew
        self._signature = signature
        providers = tuple(session.get_providers())
        accelerated = providers[:1] != (PROVIDERS["cpu"],)
        self._traits = Traits(
            steady=steady, providers=providers, threads=threads, accelerated=accelerated, notes=_notes(session)
        )
        self._texts = tuple(spec.name for spec in signature.inputs if spec.datatype == BYTES)
        has_bf16 = any(spec.datatype == BF16 for spec in (*signature.inputs, *signature.outputs))
        self._run = partial(bf16.run, session) if has_bf16 else session.run
        self._gives_texts = any(spec.datatype == BYTES for spec in signature.outputs)

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def traits(self) -> Traits:
        return self._traits

    def crew_seconds(self) -> float | None:
        return self._crew.cpu_seconds() if self._crew else None

    def stop(self) -> Stop:
        options: Stop = Arena.run_options() if self._in_arena else onnxruntime.RunOptions()
        return options

    def compute(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], stop: Stop | None) -> dict[str, Tensor]:
        feed = inputs
        if self._texts:
            feed = {**inputs, **{name: to_onnx(inputs[name], name) for name in self._texts}}
        try:
            results = self._run(outputs, feed, stop)
        except Exception as error:
            if stop is not None and stop.terminate:
                raise Unavailable("the run was stopped") from error
            if self._in_arena and _NO_ROOM in str(error):
                told = (
                    f"the model wants more memory for this than all such may take, {Arena.bytes_max / 1024**3:,.1f} GiB"
                )
                raise Refused(f"{told}; ask for less, or raise MODEL_MEMORY_BYTES_MAX", field="inputs") from error
            # The inputs fit the signature, so this is a mismatch that only the graph knows, such as two axes that must agree.
            raise Refused(f"the model cannot compute this: {first_line(error)}", field="inputs") from error
        if self._gives_texts:
            results = [from_onnx(result) for result in results]
        return dict(zip(outputs, results, strict=True))

    def try_out(self) -> None:
        """Warm the model up, and find out what it is like."""
        stop = self.stop()
        probe = Probe(
            self._signature,
            lambda inputs, outputs: self.compute(inputs, outputs, stop),
            lambda: setattr(stop, "terminate", True),
            rows_agree=_rows_agree(self._session),
        ).run()
        self._traits = replace(
            self._traits,
            joinable=probe.joinable,
            # Where not even generated inputs can be computed, or rows are no rows, nothing is known of what drives the time.
            steady=self._traits.steady and bool(probe.runs),
            first_runs=tuple(probe.runs),
        )


def _providers(wanted: Sequence[str]) -> list[str]:
    """onnxruntime's names of what is wanted and there; the CPU is always the last resort."""
    available = onnxruntime.get_available_providers()
    chosen = [PROVIDERS[name] for name in wanted if PROVIDERS[name] in available]
    missing = [name for name in wanted if PROVIDERS[name] not in available]
    if missing:
        log.warning("execution providers missing", missing=missing, available=available, used=chosen or ["cpu"])
    return chosen if PROVIDERS["cpu"] in chosen else [*chosen, PROVIDERS["cpu"]]


def _notes(session: Any) -> tuple[tuple[str, str], ...]:
    """What the file says of itself that doors tell people."""
    try:
        told = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError:
        # Some entry is no text; nothing else of the model hangs on these.
        return ()
    return tuple(
        (key, told[key]) for key in (FEATURES, CLASSES) if len(told.get(key, "")) in range(1, NOTE_CHARACTERS_MAX)
    )


def _rows_agree(session: Any) -> bool:
    """Whether no two first axes have different names, which would say that their lengths are unrelated."""
    names = {argument.shape[0] for argument in (*session.get_inputs(), *session.get_outputs()) if argument.shape}
    return len({name for name in names if isinstance(name, str)}) <= 1
