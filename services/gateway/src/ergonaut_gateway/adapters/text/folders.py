"""What a language model's folder says: of onnxruntime-genai's layout (genai_config.json) or of Hugging Face's (config.json)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ergonaut.errors import Refused

GENAI, PLAIN, GENERATION = "genai_config.json", "config.json", "generation_config.json"
FILES = ("model.onnx", "onnx/model.onnx", "decoder_model_merged.onnx", "onnx/decoder_model_merged.onnx")
"""Where exporters of Hugging Face's layout put the model."""

CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
"""What kinds of models call the longest context."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the graph calls its tensors; %d stands for the layer."""

    input_ids: str = "input_ids"
    attention_mask: str = "attention_mask"
    position_ids: str = "position_ids"
    past_key: str = "past_key_values.%d.key"
    past_value: str = "past_key_values.%d.value"
    logits: str = "logits"
    present_key: str = "present.%d.key"
    present_value: str = "present.%d.value"


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the model is, how long its context may be, and which tokens end an answer."""

    model: Path
    tokenizer: Path
    context_tokens_max: int
    end_tokens: frozenset[int]
    names: Names = field(default_factory=Names)
    shares: bool = False
    """Whether the graph can write keys and values on where those of the past are, as genai's fused attention does."""


def folder_of(path: Path) -> Folder:
    """Read a folder. Raises Refused, with what is missing in it."""
    told = _genai(path, _read(path / GENAI)) if (path / GENAI).is_file() else _plain(path)
    for file in (told.model, told.tokenizer):
        if not file.is_file():
            raise Refused(f"the text model's folder {path} has no {file.relative_to(path)}")
    return told


def _genai(path: Path, config: Mapping[str, Any]) -> Folder:
    model = _object(config, "model")
    decoder = _object(model, "decoder")
    inputs, outputs = _object(decoder, "inputs"), _object(decoder, "outputs")
    told = {
        "input_ids": inputs.get("input_ids"),
        "attention_mask": inputs.get("attention_mask"),
        "position_ids": inputs.get("position_ids"),
        "past_key": inputs.get("past_key_names"),
        "past_value": inputs.get("past_value_names"),
        "logits": outputs.get("logits"),
        "present_key": outputs.get("present_key_names"),
        "present_value": outputs.get("present_value_names"),
    }
    names = Names(**{name: text for name, text in told.items() if isinstance(text, str) and text})
    file = path / _text(decoder.get("filename"), "model.onnx")
    context = _whole(model.get("context_length"), path / GENAI, "model.context_length")
    ends = _ends(path / GENAI, model.get("eos_token_id"))
    shares = _object(config, "search").get("past_present_share_buffer") is True
    return Folder(file, path / "tokenizer.json", context, ends, names, shares)


def _plain(path: Path) -> Folder:
    config = _read(path / PLAIN)
    generation = _read(path / GENERATION) if (path / GENERATION).is_file() else {}
    file = next((path / name for name in FILES if (path / name).is_file()), path / FILES[0])
    # Models that also see or hear keep what concerns text apart.
    within = (config, _object(config, "text_config"))
    told = [part[name] for part in within for name in CONTEXT_NAMES if part.get(name) is not None]
    context = _whole(told[0] if told else None, path / PLAIN, CONTEXT_NAMES[0])
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    return Folder(file, path / "tokenizer.json", context, _ends(path / PLAIN, ends))


def _ends(path: Path, told: object) -> frozenset[int]:
    ends = frozenset(_ids(told))
    if not ends:
        raise Refused(f"{path} names no eos_token_id, so nothing would end an answer")
    return ends


def _ids(told: object) -> Iterator[int]:
    for each in told if isinstance(told, list) else [told]:
        if isinstance(each, int) and not isinstance(each, bool):
            yield each


def _whole(told: object, path: Path, name: str) -> int:
    if not isinstance(told, int) or isinstance(told, bool) or told < 1:
        raise Refused(f"{path} does not say {name}, the longest context in tokens")
    return told


def _text(told: object, otherwise: str) -> str:
    return told if isinstance(told, str) and told else otherwise


def _object(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"cannot read {path}: {type(error).__name__}") from error
    if not isinstance(read, dict):
        raise Refused(f"{path} is no JSON object")
    return read
