"""A decoder with its keys and values of the past as inputs and outputs, run by onnxruntime behind the ports `Decoder` and
`Continuation`. That is what exporters write, onnxruntime-genai's as well as Hugging Face's."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ergonaut.errors import Refused, Unavailable
from ergonaut_common.observe import get_logger
from ergonaut_gateway.adapters.crews import Crew, beginning
from ergonaut_gateway.adapters.sessions import PROVIDERS, QUIET, first_line, opened
from ergonaut_gateway.adapters.text.folders import Folder, Names
from ergonaut_gateway.domain.tensors import Tensor

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
"""What keys and values may be kept as."""

log = get_logger(__name__)


class OnnxDecoder:
    """Fills `Decoder`."""

    def __init__(self, folder: Folder, *, threads: int) -> None:
        """Load the model. Raises Refused where it is no decoder that can be continued."""
        self.context_tokens_max = folder.context_tokens_max
        self.end_tokens = folder.end_tokens
        self._session, self._crew = _opened(folder.model, threads)
        self._wiring = _Wiring(self._session, folder.names, folder.model)
        self.shares = folder.shares and self._can_share()
        """Whether keys and values stay where they are from run to run, rather than being copied into larger ones."""

    def crew_seconds(self) -> float | None:
        return self._crew.cpu_seconds() if self._crew else None

    def begin(self, tokens_max: int) -> "OnnxContinuation":
        return self._begun(tokens_max, shares=self.shares)

    def _begun(self, tokens_max: int, *, shares: bool) -> "OnnxContinuation":
        past = _Shared(self._session, self._wiring, tokens_max) if shares else _Growing(self._session, self._wiring)
        return OnnxContinuation(past, self._wiring)

    def _can_share(self) -> bool:
        """Whether the graph does what the folder says of it: one token is read and one more."""
        tried = self._begun(2, shares=True)
        try:
            tried.feed([0])
            tried.feed([0])
        except Unavailable as error:
            log.warning("keys and values are not shared between runs, though the folder says so", because=str(error))
            return False
        return True


class OnnxContinuation:
    """Fills `Continuation`."""

    def __init__(self, past: "_Growing | _Shared", wiring: "_Wiring") -> None:
        self._past = past
        self._wiring = wiring
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = QUIET
        self._tokens = 0

    def feed(self, tokens: Sequence[int]) -> Tensor:
        try:
            given = self._past.run(self._wiring.inputs(tokens, self._tokens), self._options)
        except Exception as error:
            if self._options.terminate:
                raise Unavailable("the run was stopped") from error
            # Tokens were looked at before, so this is the model's or the machine's fault and not the caller's.
            raise Unavailable(f"the model cannot compute this: {first_line(error)}") from error
        self._tokens += len(tokens)
        last: Tensor = given.reshape(-1, given.shape[-1])[-1]
        return last.astype(np.float32)

    def stop(self) -> None:
        self._options.terminate = True


class _Growing:
    """Keys and values that each run gives anew with one token more. They are handed on as they are; the graph copies them."""

    def __init__(self, session: Any, wiring: "_Wiring") -> None:
        self._session = session
        self._wiring = wiring
        self._past = dict(zip(wiring.past, wiring.empty(0), strict=True))

    def run(self, feed: Mapping[str, Any], options: Any) -> Tensor:
        """The logits of all tokens that are fed."""
        logits, *present = self._session.run_with_ort_values(self._wiring.outputs, {**feed, **self._past}, options)
        self._past = dict(zip(self._wiring.past, present, strict=True))
        given: Tensor = logits.numpy()
        return given


class _Shared:
    """Keys and values that have room for the whole text from the beginning, which runs write on in. The system gives memory for
    what is written only. On the way of 3,500 tokens that makes a token of a small model three times as fast."""

    def __init__(self, session: Any, wiring: "_Wiring", tokens_max: int) -> None:
        self._session = session
        self._wiring = wiring
        self._kept = wiring.empty(tokens_max)

    def run(self, feed: Mapping[str, Any], options: Any) -> Tensor:
        """The logits of all tokens that are fed."""
        binding = self._session.io_binding()
        logits, *present = self._wiring.outputs
        binding.bind_output(logits)
        for name, value in feed.items():
            binding.bind_ortvalue_input(name, value)
        for past, given, value in zip(self._wiring.past, present, self._kept, strict=True):
            binding.bind_ortvalue_input(past, value)
            binding.bind_ortvalue_output(given, value)
        self._session.run_with_iobinding(binding, options)
        told: Tensor = binding.get_outputs()[0].numpy()
        return told


class _Wiring:
    """Which inputs and outputs of the graph are what."""

    def __init__(self, session: Any, names: Names, path: Path) -> None:
        inputs = {each.name: each for each in session.get_inputs()}
        given = {each.name for each in session.get_outputs()}
        layers = sum(1 for name in inputs if _matches(names.past_key, name))
        self.past = [pattern % layer for layer in range(layers) for pattern in (names.past_key, names.past_value)]
        present = [pattern % layer for layer in range(layers) for pattern in (names.present_key, names.present_value)]
        self.outputs = [names.logits, *present]
        self._names = names
        self._others = {name: inputs[name].type for name in inputs if name not in self.past}
        known = {names.input_ids, names.attention_mask, names.position_ids}
        unknown = [*(self._others.keys() - known), *(set(self.past) - inputs.keys()), *(set(self.outputs) - given)]
        if not layers or unknown or names.input_ids not in inputs:
            about = f"; these do not fit: {', '.join(sorted(unknown))}" if unknown else ""
            raise Refused(
                f"{path} is no decoder that can be continued: it must take {names.input_ids} and {names.past_key % 0}, "
                f"and give {names.logits} and {names.present_key % 0}{about}"
            )
        self._forms = [_form(inputs[name], path) for name in self.past]

    def empty(self, tokens: int) -> list[Any]:
        """Keys and values with room for so many tokens, and nothing in it."""
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        return [value(np.zeros((1, heads, tokens, width), kind)) for heads, width, kind in self._forms]

    def inputs(self, tokens: Sequence[int], before: int) -> dict[str, Any]:
        """What tells the graph of these tokens, of which so many came before."""
        names, count = self._names, len(tokens)
        made = {
            names.input_ids: np.array([tokens], np.int64),
            names.attention_mask: np.ones((1, before + count), np.int64),
            names.position_ids: np.arange(before, before + count, dtype=np.int64)[None],
        }
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        return {
            name: value(made[name].astype(np.int32) if kind == "tensor(int32)" else made[name])
            for name, kind in self._others.items()
        }


def _matches(pattern: str, name: str) -> bool:
    before, _, after = pattern.partition("%d")
    return re.fullmatch(re.escape(before) + r"\d+" + re.escape(after), name) is not None


def _form(argument: Any, path: Path) -> tuple[int, int, type]:
    """How many heads keys or values have, how wide each is, and of what numbers, as the graph says."""
    kind, shape = TYPES.get(argument.type), list(argument.shape)
    if kind is None or len(shape) != 4 or not (isinstance(shape[1], int) and isinstance(shape[3], int)):
        raise Refused(
            f"{path}: {argument.name} is {argument.type} {shape}; it must be float or float16 of 4 axes, "
            "with a fixed number of heads and width"
        )
    return shape[1], shape[3], kind


def _opened(path: Path, threads: int) -> tuple[Any, Crew | None]:
    """A session of a file, and the threads that it has of its own."""
    try:
        if threads == 1:
            return opened(path, [PROVIDERS["cpu"]], threads), None
        with beginning() as crew:
            return opened(path, [PROVIDERS["cpu"]], threads), crew
    except Refused as error:
        raise Refused(f"{path} {str(error).removeprefix(f'{error.field}: ')}") from error
