"""Recognises what a person gave, and turns what is no ONNX file into one, with the outputs of the source to compare with."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ergonaut.create.apart import Bounds, apart
from ergonaut.create.feeds import read_feed
from ergonaut.create.options import CreateOptions
from ergonaut.create.tensors import Array
from ergonaut.errors import NotFound, Refused

_MODULE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_HUGGING_FACE = re.compile(r"hf:[\w.-]+(/[\w.-]+)?")

_INSTALL = {
    "onnx": "pip install 'ergonaut[create]'",
    "onnxruntime": "pip install 'ergonaut[create]'",
    "jinja2": "pip install 'ergonaut[create]'",
    "skl2onnx": "pip install 'ergonaut[create-sklearn]'",
    "skops": "pip install 'ergonaut[create-sklearn]'",
    "joblib": "pip install 'ergonaut[create-sklearn]'",
    "cryptography": "pip install 'ergonaut[signing]'",
    "torch": "pip install torch onnxscript",
    "onnxscript": "pip install torch onnxscript",
    "transformers": "pip install torch onnxscript transformers",
}


@dataclass(frozen=True, slots=True)
class Source:
    """What was given: a kind, and where it is (a path, module:attribute or an id)."""

    kind: str
    where: str

    def in_words(self) -> str:
        """For people."""
        return f"{_KINDS[self.kind]}: {self.where}"


_KINDS = {
    "onnx": "an ONNX file",
    "sklearn": "a scikit-learn model",
    "module": "a model of your own code",
    "torch": "an exported PyTorch program",
    "huggingface": "a Hugging Face model",
}

_NEEDS = {
    "onnx": (),
    "sklearn": ("skl2onnx", "skops", "joblib"),
    "module": (),
    "torch": ("torch", "onnxscript"),
    "huggingface": ("torch", "onnxscript", "transformers"),
}


@dataclass(frozen=True, slots=True)
class Reference:
    """Inputs, and what the source model gives for them."""

    feed: dict[str, Array]
    outputs: dict[str, Array]


def recognised(options: CreateOptions) -> Source:
    """What a model is, by its name alone. Raises NotFound, Refused with what to do; nothing is opened yet."""
    source = _recognised(options.model)
    if Path(source.where).suffix in (".pkl", ".joblib") and not options.trust_pickle:
        raise Refused(
            f"{source.where} runs code of its maker when it is opened; save it by skops.io.dump as .skops, "
            "or give --trust-pickle where you made it yourself"
        )
    needed("onnx", "onnxruntime", *(("jinja2",) if options.export else ()), *_NEEDS[source.kind])
    return source


def needed(*modules: str) -> None:
    """Raise Refused, saying what to install, where a library is not there."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise Refused(f"this needs {module}, which is not installed; {_INSTALL[module]}")


def _recognised(model: str) -> Source:
    path = Path(model)
    if _HUGGING_FACE.fullmatch(model):
        return Source("huggingface", model.removeprefix("hf:"))
    if path.is_dir() and (path / "config.json").is_file():
        return Source("huggingface", model)
    kind = {".onnx": "onnx", ".skops": "sklearn", ".joblib": "sklearn", ".pkl": "sklearn", ".pt2": "torch"}.get(
        path.suffix
    )
    if kind is None and path.suffix == ".safetensors":
        return _weights(path)
    if kind is None and _MODULE.fullmatch(model) and not path.exists():
        return Source("module", model)
    if not path.exists():
        raise NotFound(f"there is no file {model}; give a file, module:attribute, or hf:ID for a Hugging Face model")
    if kind is None and path.suffix in (".pt", ".pth", ".bin"):
        raise Refused(f"{model} holds pickled weights and no graph; save it by torch.export.save as .pt2")
    if kind is None or not path.is_file():
        raise Refused(f"{model} is no model that is known; give .onnx, .skops, .joblib, .pkl, .pt2 or .safetensors")
    return Source(kind, model)


def _weights(path: Path) -> Source:
    if not path.is_file():
        raise NotFound(f"there is no file {path}; give the path of a model")
    if not (path.parent / "config.json").is_file():
        raise Refused(f"{path} holds weights and no graph; put its config.json beside it, or give hf:ID")
    return Source("huggingface", str(path.parent))


def converted(source: Source, options: CreateOptions, folder: Path, bounds: Bounds) -> tuple[Path, Reference | None]:
    """The ONNX file of a source, and what the source itself gives. Raises Refused where it cannot be converted."""
    if source.kind == "onnx":
        return Path(source.where), None
    model, feed, outputs = (folder / name for name in ("converted.onnx", "source-feed.npz", "source-outputs.npz"))
    request: dict[str, Any] = {
        "source": source.where,
        "example": options.example,
        "model": model,
        "feed": feed,
        "outputs": outputs,
    }
    apart(source.kind, request, bounds, own_code=source.kind in ("module", "sklearn"))
    return model, Reference(read_feed(feed), read_feed(outputs))
