"""What the house rules say and a machine can check: sizes, layout, a fake for each port, documented settings, subjects.

Used as a test (`tools/test_tidy.py`); each check gives sentences that say where and what to do.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SERVICES = sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6
BLOB_BYTES_MAX = 512 * 1024
SERVICE_FILES = ("__init__", "__main__", "domain", "ports", "service", "fakes", "settings", "main")
SUBJECT = re.compile(r"ergonaut\.v1\.[a-zA-Z0-9<>*._-]+")
SUBJECT_GRAMMAR = re.compile(
    r"ergonaut\.v1\.(\*|<[a-z-]+>|[a-z0-9-]+)\.(>|(\*|<[a-z]+>|[a-z]+)\.(>|\*|(<[a-z]+>|[a-z]+)(\.(>|\*|<[a-z-]+>|[a-z0-9-]+)){1,2}))"
)
BANNED_NAMES = {"utils", "helpers", "manager", "misc", "data", "common_stuff"}


def python_files() -> Iterator[Path]:
    """Every Python file that we wrote."""
    for top in ("libs", "services", "tools", "tests", "bench", "examples"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if "api" not in path.relative_to(ROOT).parts and "__pycache__" not in path.parts:
                yield path


def named(path: Path) -> str:
    """The path as a person looks for it."""
    return str(path.relative_to(ROOT))


def too_large() -> Iterator[str]:
    """Files over 500 lines, functions over 60, more than six parameters."""
    for path in python_files():
        text = path.read_text()
        if text.count("\n") > FILE_LINES_MAX:
            yield f"{named(path)} has {text.count(chr(10))} lines; make it a folder of the same name"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _function_too_large(path, node)


def _function_too_large(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > FUNCTION_LINES_MAX:
        yield f"{named(path)}:{node.lineno} {node.name} has {lines} lines; leave the work to leaves"
    parameters = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    counted = [name for name in parameters if name not in ("self", "cls")]
    kernel = path.parent.name == "kernels" or path.name == "kernels.py"
    if len(counted) > PARAMETERS_MAX and "tests" not in path.parts and not kernel and "/cli/" not in named(path):
        yield f"{named(path)}:{node.lineno} {node.name} takes {len(counted)} parameters; six at most"


def badly_named() -> Iterator[str]:
    """Files whose names say nothing."""
    for path in python_files():
        if path.stem in BANNED_NAMES:
            yield f"{named(path)} has a name that says nothing; name what it is for"


def undocumented_modules() -> Iterator[str]:
    """Modules that do not begin by saying what they are for."""
    for path in python_files():
        if "tests" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        if not ast.get_docstring(tree) and tree.body:
            yield f"{named(path)} does not say what it is for"


def misshapen_services() -> Iterator[str]:
    """Services without the files that every service has."""
    for folder in SERVICES:
        package = folder / "src" / f"ergonaut_{folder.name}"
        for name in SERVICE_FILES:
            if not (package / f"{name}.py").exists() and not (package / name / "__init__.py").exists():
                yield f"{named(package)} has no {name}"
        if not list((folder / "tests").glob("test_*.py")):
            yield f"{named(folder)} has no tests"
        if (folder / "README.md").read_text().count("\n") < 10:
            yield f"{named(folder)}/README.md does not tell what the service promises"


def ports_without_fakes() -> Iterator[str]:
    """Ports for which no fake is shipped: a class of fakes.py (or the folder) that names the port or bears its name."""
    for folder in SERVICES:
        package = folder / "src" / f"ergonaut_{folder.name}"
        fakes = "\n".join(path.read_text() for path in _module(package, "fakes"))
        for path in _module(package, "ports"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and _is_protocol(node) and node.name not in fakes:
                    yield f"{named(path)}: the port {node.name} has no fake"


def undocumented_settings() -> Iterator[str]:
    """Settings without a sentence on what they change."""
    for path in [*ROOT.glob("services/*/src/*/settings.py"), ROOT / "libs/common/src/ergonaut_common/settings.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and node.target.id != "model_config"
            ):
                described = isinstance(node.value, ast.Call) and any(
                    k.arg == "description" for k in node.value.keywords
                )
                if not described and "ClassVar" not in ast.unparse(node.annotation):
                    yield f"{named(path)}:{node.lineno} the setting {node.target.id} is not described"


def malformed_subjects() -> Iterator[str]:
    """Texts in code that look like a whole subject and break its grammar; pieces of f-strings cannot be judged."""
    for path in python_files():
        text = path.read_text()
        # To take all files apart takes seconds, and few speak of subjects.
        if "ergonaut.v1." not in text:
            continue
        tree = ast.parse(text)
        pieces = {id(piece) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces:
                for subject in SUBJECT.findall("" if "\n" in node.value else node.value):
                    if not SUBJECT_GRAMMAR.fullmatch(subject.rstrip(".")):
                        yield f"{named(path)}:{node.lineno} {subject} breaks the grammar of subjects"


def misplaced_proto_packages() -> Iterator[str]:
    """Proto files whose package is not that of their folder; the published protocol's is not ours to choose."""
    for path in sorted((ROOT / "proto").rglob("*.proto")):
        package = re.search(r"^package (.+);", path.read_text(), re.MULTILINE)
        expected = ".".join(path.parent.relative_to(ROOT / "proto").parts)
        if package is None or (package[1] != expected and path.name != "open_inference.proto"):
            yield f"{named(path)} must have the package {expected}"


def large_blobs(tracked: list[str]) -> Iterator[str]:
    """Files over half a MiB; large things belong elsewhere."""
    for name in tracked:
        path = ROOT / name
        if path.is_file() and path.stat().st_size > BLOB_BYTES_MAX and path.name != "uv.lock":
            yield f"{name} is larger than {BLOB_BYTES_MAX // 1024} KiB"


def _module(package: Path, name: str) -> list[Path]:
    single = package / f"{name}.py"
    return [single] if single.exists() else sorted((package / name).glob("*.py"))


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith("Protocol") for base in node.bases)
