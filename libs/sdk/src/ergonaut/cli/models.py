"""`ergonaut deploy`, `remove`, and `ergonaut models`: models that are served, their versions, aliases, cards and signatures."""

import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ergonaut import signing
from ergonaut.api.inference.v1 import inference_pb2 as pb
from ergonaut.cli import models_books, models_mlflow
from ergonaut.cli.output import JSON_OPTION, ask, err, out, print_json, print_table, telling_errors, write_file
from ergonaut.client import AsyncClient
from ergonaut.client.connection import Connection
from ergonaut.errors import ErgonautError, NotFound, Refused
from ergonaut.ids import NAME_RULE, is_name
from ergonaut.tls import base_url

JsonFlag = Annotated[bool, JSON_OPTION]
Name = Annotated[str, typer.Argument(help="The model's name.")]
Version = Annotated[
    str, typer.Argument(help="A version's number or an alias; none is the one that stands for the model.")
]
PathToSign = Annotated[Path, typer.Argument(help="A file, or a folder of files.")]
SignatureFile = Annotated[
    Path | None, typer.Option("--signature", metavar="FILE", help="The signature's file; by default PATH.sig.")
]
Expected = Annotated[
    int | None,
    typer.Option("--expected", metavar="VERSION", help="Only if it names this version now; 0 for none."),
]

SIGNATURE_SUFFIX = ".sig"

app = typer.Typer(
    help="List the models that are served; with a command: their versions, aliases, cards, signatures.\n\n"
    "Example: ergonaut models",
    invoke_without_command=True,
)


models_mlflow.register(app)
models_books.register(app)


def register(parent: typer.Typer) -> None:
    """Add these commands to the CLI."""
    panel = "Models"
    parent.command("deploy", rich_help_panel=panel)(deploy)
    parent.add_typer(app, name="models", rich_help_panel=panel)
    parent.command("remove", rich_help_panel=panel)(remove)


def deploy(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    file: Annotated[Path, typer.Argument(help="An ONNX file.")],
    name: Annotated[str, typer.Option("--name", help="The name to serve it under.")],
    run_id: Annotated[str, typer.Option("--run", help="The run that trained it; what it used is recorded.")] = "",
    signature: SignatureFile = None,
    framework: Annotated[str, typer.Option("--framework", help="What it was made with, such as 'sklearn 1.9'.")] = "",
    data_digest: Annotated[str, typer.Option("--data-digest", help="Digest of the data it was trained on.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Serve a model by the Open Inference Protocol, over HTTP and gRPC. FILE.sig beside it is sent as its signature.

    Example: ergonaut deploy model.onnx --name digits
    """
    with telling_errors():
        bundle = _bundle_beside(file, signature)

        async def deployed(client: AsyncClient) -> pb.Model:
            lineage = await _lineage(client, run_id)
            lineage.MergeFrom(pb.Lineage(framework=framework, data_digest=data_digest))
            return await client.models.deploy(file, name, run_id=run_id, lineage=lineage, signature=bundle)

        model = ask(deployed)
        if as_json:
            print_json(model)
            return
        address = Connection.from_environment().gateway_http
        out.print(f"{model.name} version {model.version} is served at {base_url(address)}/v2/models/{model.name}")
        for kind, tensors in (("takes", model.inputs), ("gives", model.outputs)):
            for tensor in tensors:
                out.print(f"  {kind} {tensor.name} {tensor.datatype} {list(tensor.shape)}", markup=False)


def remove(
    name: Name,
    version: Annotated[str, typer.Option("--version", help="Only this version, by its number.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Serve a model no longer, and keep none of its versions.

    Example: ergonaut remove digits
    """
    with telling_errors():
        ask(lambda client: client.models.remove(name, version))
        if as_json:
            print_json({"name": name, "version": version, "removed": True})
        else:
            told = f"version {version} of {name}" if version else name
            out.print(f"{told} is served no longer", markup=False)


@app.callback()
def models(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the models that are served; with a command: their versions, aliases, cards, signatures.

    Example: ergonaut models
    """
    if context.invoked_subcommand is not None:
        return
    with telling_errors():
        found = ask(lambda client: client.models.served())
        if as_json:
            print_json(found)
            return
        rows = [(m.name, str(m.version), f"{m.size_bytes:,}", m.run_id or "-", m.digest[:19]) for m in found]
        print_table("", ("model", "version", "bytes", "run", "digest"), rows, right=("version", "bytes"))
        _print_problems(found)


@app.command("versions")
def versions(name: Name, as_json: JsonFlag = False) -> None:
    """List the versions of a model, oldest first, with their states and aliases.

    Example: ergonaut models versions digits
    """
    with telling_errors():
        told = ask(lambda client: client.models.versions(name))
        print_json(told) if as_json else _print_versions(told.versions)


@app.command("alias")
def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(help="The alias; `champion` is served where no version is asked for.")],
    version: Annotated[str, typer.Argument(help="The version's number, or another alias.")] = "",
    expected: Expected = None,
    is_removed: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Let an alias name a version, which is loaded first; requests follow at once.

    Example: ergonaut models alias digits champion 3
    """
    with telling_errors():
        if bool(version) == is_removed:
            raise Refused("say which version the alias names, or --remove, and not both", field="version")
        if is_removed:
            ask(lambda client: client.models.unalias(name, alias, expected=expected))
            told = f"{name} has no alias {alias} any more"
            print_json({"name": name, "alias": alias, "removed": True}) if as_json else out.print(told, markup=False)
            return
        model = ask(lambda client: client.models.alias(name, alias, version, expected=expected))
        told = f"{alias} of {name} is version {model.version}"
        print_json(model) if as_json else out.print(told, markup=False)


@app.command("load")
def load(name: Name, version: Version = "", as_json: JsonFlag = False) -> None:
    """Hold a version ready, also when newer ones come.

    Example: ergonaut models load digits 2
    """
    with telling_errors():
        told = ask(lambda client: client.models.load(name, version))
        print_json(told) if as_json else _print_versions(told)


@app.command("unload")
def unload(name: Name, version: Version = "", as_json: JsonFlag = False) -> None:
    """Hold a version ready no longer, or the whole model; it is kept and can be loaded again.

    Example: ergonaut models unload digits 2
    """
    with telling_errors():
        told = ask(lambda client: client.models.unload(name, version))
        print_json(told) if as_json else _print_versions(told)


@app.command("card")
def card(
    name: Name,
    version: Version = "",
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Write it to a file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Tell where a version comes from and what training it used: joules, grams and dollars. Markdown, or JSON.

    Example: ergonaut models card digits champion
    """
    with telling_errors():
        told = ask(lambda client: client.models.card(name, version))
        text = told.json + "\n" if as_json else told.markdown
        if to is not None:
            write_file(to, text, option="--to")
        else:
            out.print(text, markup=False, soft_wrap=True, end="")


@app.command("open")
def open_page(
    name: Name,
    version: Version = "",
    is_shown: Annotated[bool, typer.Option("--browser", help="Open it in a browser, too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Tell where a model's page is, on which a person can try it; it asks for a key.

    Example: ergonaut models open digits --browser
    """
    with telling_errors():
        page = page_of(name, version)
        if as_json:
            print_json({"name": name, "version": version, "page": page})
        else:
            out.print(page, markup=False, soft_wrap=True)
        if is_shown and not webbrowser.open(page):
            raise Refused("no browser was found here; open the address elsewhere", field="--browser")


@app.command("download")
def download(
    name: Name,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to write it.")],
    version: Version = "",
    as_json: JsonFlag = False,
) -> None:
    """Write the file of a version.

    Example: ergonaut models download digits champion --to model.onnx
    """
    with telling_errors():
        size_bytes = ask(lambda client: client.models.download(name, to, version))
        if as_json:
            print_json({"file": str(to), "size_bytes": size_bytes})
        else:
            out.print(f"{size_bytes:,} bytes written to {to}", markup=False, soft_wrap=True)


@app.command("sign")
def sign(
    path: PathToSign,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key: PEM, elliptic curve P-256.")],
    signature: SignatureFile = None,
    password: Annotated[
        str, typer.Option("--password", envvar="ERGONAUT_KEY_PASSWORD", help="The key's password.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Sign a model in the format of OpenSSF model signing; the `model_signing` tool verifies it too.

    Example: ergonaut models sign model.onnx --key key.pem
    """
    with telling_errors():
        target = _signature_of(path, signature)
        bundle = signing.sign(path, key, password=password, beside=[target])
        write_file(target, bundle, option="--signature")
        if as_json:
            print_json({"path": str(path), "signature": str(target), "key": signing.read_bundle(bundle).key_hint})
        else:
            out.print(f"{path} is signed: {target}", markup=False, soft_wrap=True)


@app.command("verify")
def verify(
    path: PathToSign,
    keys: Annotated[list[Path], typer.Option("--key", metavar="FILE", help="A public key: PEM. May be given again.")],
    signature: SignatureFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Check that a model is exactly what one of the keys has signed.

    Example: ergonaut models verify model.onnx --key key.pub
    """
    with telling_errors():
        source = _signature_of(path, signature)
        key = signing.verify(path, _read(source), signing.read_keys(keys), beside=[source])
        if as_json:
            print_json({"path": str(path), "signature": str(source), "key": key.id, "verified": True})
        else:
            out.print(f"{path} is as it was signed by the key {key.id[:12]}", markup=False, soft_wrap=True)


def page_of(name: str, version: str = "") -> str:
    """Where a model's page is. Raises Refused for what can be no name, NotFound where the gateway is not known."""
    for field, text in (("name", name), ("version", version)):
        if not is_name(text) and (text or field == "name"):
            raise Refused(f"{text!r} is none; use {NAME_RULE}", field=field)
    address = Connection.from_environment().gateway_http
    if not address:
        raise NotFound("where the gateway serves HTTP is not known; set ERGONAUT_GATEWAY_HTTP_ADDRESS")
    return f"{base_url(address)}/v2/models/{name}" + (f"/versions/{version}" if version else "") + "/page"


def _print_versions(versions: Iterable[pb.Model]) -> None:
    rows = [
        (
            str(each.version),
            _state(each),
            ", ".join(each.aliases) or "-",
            f"{each.size_bytes:,}",
            each.run_id or "-",
            (each.signed_by[:12] or "unknown key") if each.is_signed else "-",
            each.digest[:19],
        )
        for each in versions
    ]
    columns = ("version", "state", "aliases", "bytes", "run", "signed by", "digest")
    print_table("", columns, rows, right=("version", "bytes"))
    _print_problems(versions)


def _state(version: pb.Model) -> str:
    told = pb.VersionState.Name(version.state).removeprefix("VERSION_STATE_").lower()
    return f"{told} (!)" if version.problem else told


def _print_problems(versions: Iterable[pb.Model]) -> None:
    """Versions that should be served and are not, or not well, and why."""
    for each in versions:
        if each.problem:
            err.print(f"{each.name} version {each.version}: {each.problem}", markup=False, soft_wrap=True)


async def _lineage(client: AsyncClient, run_id: str) -> pb.Lineage:
    """What the run used; where the ledger cannot say, that is left untold and people are told so."""
    if not run_id:
        return pb.Lineage()
    try:
        return await client.models.lineage_of_run(run_id)
    except ErgonautError as error:
        err.print(f"what {run_id} used is not recorded: {error}", markup=False, soft_wrap=True)
        return pb.Lineage()


def _bundle_beside(file: Path, signature: Path | None) -> str:
    """The signature that was named, or that lies beside the file, if any."""
    beside = _signature_of(file, None)
    if signature is None and not beside.is_file():
        return ""
    return _read(signature or beside)


def _signature_of(path: Path, signature: Path | None) -> Path:
    return signature or path.with_name(path.name + SIGNATURE_SUFFIX)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read: {error}", field="--signature") from error
