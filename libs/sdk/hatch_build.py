"""Generates the protobuf code of `ergonaut.api` while the distribution is built, so that nobody commits or forgets it."""

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTO_ROOT = Path(__file__).resolve().parents[2] / "proto"
SOURCE_ROOT = Path(__file__).resolve().parent / "src"
GENERATED = SOURCE_ROOT / "ergonaut" / "api"


class GenerateApi(BuildHookInterface[Any]):
    """Runs protoc over every .proto of the repository, for wheels and editable installs alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling calls it so
        generate()


def generate() -> None:
    """Replace `src/ergonaut/api` by what the .proto files say now."""
    import grpc_tools
    from grpc_tools import protoc

    shutil.rmtree(GENERATED, ignore_errors=True)
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    protos = sorted(str(path) for path in PROTO_ROOT.rglob("*.proto"))
    outputs = [f"--{kind}_out={SOURCE_ROOT}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    status = protoc.main(["protoc", f"-I{PROTO_ROOT}", f"-I{well_known}", *outputs, *protos])
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status}; its message stands above")
    for folder in [GENERATED, *(path for path in GENERATED.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text(
            '"""Generated from proto/ while building; change the .proto, then `make proto`."""\n'
        )


if __name__ == "__main__":
    generate()
