"""Fills `Fuser`: the onnx library in a process apart, so that the gateway neither holds it in memory nor reads files with it that
callers sent. Where it is not installed, nothing is fused."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ergonaut.errors import Refused
from ergonaut_gateway.adapters.apart import asked
from ergonaut_gateway.domain.pipelines.combining import shares
from ergonaut_gateway.domain.pipelines.recipes import Blend, Recipe, Stage

SECONDS_MAX = 60.0
"""How long it may take: some seconds for models of 100 MB, of which one is to import the library."""

_PROGRAM = "ergonaut_gateway.adapters.merging"


class OnnxFuser:
    """Fills `Fuser`."""

    async def fuse(
        self, recipe: Recipe, files: Mapping[tuple[str, str], Path], target: Path, *, rows_alike: bool
    ) -> None:
        if find_spec("onnx") is None:
            raise Refused("onnx is not installed with this gateway; install ergonaut-gateway[fusing]")
        request = {**_told(recipe, files), "target": str(target), "rows_alike": rows_alike}
        await asked(_PROGRAM, request, doing="merging the models", seconds=SECONDS_MAX)


def _told(recipe: Recipe, files: Mapping[tuple[str, str], Path]) -> dict[str, Any]:
    return {
        "inputs": [_tensor(spec, at) for spec, at in recipe.inputs],
        "outputs": [_tensor(spec, at) for spec, at in recipe.outputs],
        "work": [_blend(each) if isinstance(each, Blend) else _stage(each, files) for each in recipe.work],
    }


def _tensor(spec: Any, at: int) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape, "at": at}


def _stage(stage: Stage, files: Mapping[tuple[str, str], Path]) -> dict[str, Any]:
    told = f"version {stage.version} of {stage.model}"
    file = str(files[stage.model, stage.version])
    return {"told": told, "file": file, "takes": stage.takes, "gives": stage.gives}


def _blend(blend: Blend) -> dict[str, Any]:
    return {
        "how": str(blend.how),
        "parts": blend.parts,
        "weights": shares(blend.weights),
        "axis": blend.axis,
        "datatype": blend.datatype,
        "gives": blend.gives,
    }
