"""Signatures of models in the format of OpenSSF model signing 1.0, by keys on an elliptic curve: made by the command line,
checked by it and by the gateway. What is signed here the `model_signing` tool verifies, and the other way round.

A signature is a Sigstore bundle: a DSSE envelope around an in-toto statement that lists the files and their digests. Needs
`pip install ergonaut[signing]`. Specification: https://github.com/ossf/model-signing-spec
"""

import base64
import binascii
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ergonaut.errors import Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"

IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
"""What the format leaves out of a folder unless told otherwise."""

WHOLE = "."
"""The name of the file where a single file was signed."""

BLOCK_BYTES = 1024 * 1024
CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""The curves that the format knows, and the hash that goes with each."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key; its id is the SHA-256 of its PEM form, as signatures name it."""

    id: str
    key: "EllipticCurvePublicKey"


@dataclass(frozen=True, slots=True)
class SignatureBundle:
    """A signature as it was read; nothing in it is to be believed before `signed_by` named a key."""

    payload: bytes
    signature: bytes
    key_hint: str
    name: str
    files: Mapping[str, str]
    """SHA-256 digests in hex by the files' names within the model."""


def sign(path: Path, private_key: Path, *, password: str = "", beside: Sequence[Path] = ()) -> str:
    """The bundle, as JSON, that signs a file or a folder; files of `beside` are left out. Raises Refused."""
    _check_installed()
    key = _private_key(private_key, password)
    files = digests_of(path, beside=beside)
    payload = _statement(path.resolve().name, files, ignored=_inside(path, beside))
    public = _trusted(key.public_key(), where=str(private_key))
    signature = key.sign(_authenticated(payload), _ecdsa(public.key))
    bundle = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": public.id}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle)


def verify(path: Path, bundle: str, keys: Sequence[TrustedKey], *, beside: Sequence[Path] = ()) -> TrustedKey:
    """The key that signed a file or folder, exactly as it is. Raises Refused."""
    read = read_bundle(bundle)
    key = signed_by(read, keys)
    if key is None:
        raise Refused(f"is by a key that is not among the {len(keys)} given", field="signature")
    found = digests_of(path, beside=beside)
    if found != read.files:
        raise Refused(f"does not fit {path}: {_difference(read.files, found)}", field="signature")
    return key


def read_bundle(text: str) -> SignatureBundle:
    """What a bundle says. Raises Refused for one that is not of this format."""
    try:
        bundle = json.loads(text)
        if bundle["mediaType"] != BUNDLE_TYPE:
            raise Refused(f"is of type {bundle['mediaType']!r}, wanted is {BUNDLE_TYPE}", field="signature")
        envelope = bundle["dsseEnvelope"]
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise Refused(f"holds a {envelope['payloadType']!r}, wanted is {PAYLOAD_TYPE}", field="signature")
        (signature,) = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        name, files = _subject(json.loads(payload))
        return SignatureBundle(
            payload=payload,
            signature=base64.b64decode(signature["sig"], validate=True),
            key_hint=str(bundle["verificationMaterial"].get("publicKey", {}).get("hint") or ""),
            name=name,
            files=files,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise Refused(f"is no OpenSSF model signature: {type(error).__name__} {error}", field="signature") from error


def signed_by(bundle: SignatureBundle, keys: Sequence[TrustedKey]) -> TrustedKey | None:
    """The key that signed, or None where it is none of these. Raises Refused where it claims one of them and is not by it."""
    for key in keys:
        if bundle.key_hint and bundle.key_hint != key.id:
            continue
        if _fits(bundle, key):
            return key
        if bundle.key_hint:
            raise Refused(
                f"claims the key {key.id[:12]} and is not by it; the signature was changed", field="signature"
            )
    return None


def read_keys(paths: Sequence[Path]) -> tuple[TrustedKey, ...]:
    """The public keys in PEM files. Raises Refused for one that cannot be used."""
    if paths:
        _check_installed()
    return tuple(_public_key(path) for path in paths)


def digests_of(path: Path, *, beside: Sequence[Path] = ()) -> dict[str, str]:
    """SHA-256 digests in hex of a file, or of the files of a folder, in the order in which they are signed. Raises Refused."""
    try:
        if path.is_file():
            return {WHOLE: _digest(path)}
        left_out = {each.resolve() for each in beside}
        found: dict[str, str] = {}
        for each in sorted(path.rglob("*")):
            name = each.relative_to(path)
            if name.parts[0] in IGNORED or each.resolve() in left_out:
                continue
            if each.is_symlink():
                raise Refused(f"{each} is a symbolic link; only files are signed", field="path")
            if each.is_file():
                found[name.as_posix()] = _digest(each)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", field="path") from error
    if not found:
        raise Refused(f"{path} has no files", field="path")
    return dict(sorted(found.items()))


def _check_installed() -> None:
    if importlib.util.find_spec("cryptography") is None:
        raise Refused("signatures need cryptography; install it with `pip install 'ergonaut[signing]'`")


def _subject(statement: Any) -> tuple[str, dict[str, str]]:
    """The model's name and its files. Raises Refused, or what a document of another form makes Python raise."""
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise Refused(f"states {statement['predicateType']!r}, wanted is {PREDICATE_TYPE}", field="signature")
    method = statement["predicate"]["serialization"]["method"]
    if method != "files":
        raise Refused(
            f"lists {method!r}, only whole files can be checked; sign with the method `files`", field="signature"
        )
    (subject,) = statement["subject"]
    resources = statement["predicate"]["resources"]
    for resource in resources:
        if resource["algorithm"] != "sha256":
            raise Refused(f"hashes by {resource['algorithm']!r}; sign with sha256", field="signature")
    files = {str(resource["name"]): str(resource["digest"]) for resource in resources}
    root = hashlib.sha256(b"".join(bytes.fromhex(resource["digest"]) for resource in resources))
    if root.hexdigest() != subject["digest"]["sha256"] or len(files) != len(resources):
        raise Refused("contradicts itself: its files are not those of its subject", field="signature")
    return str(subject["name"]), files


def _statement(name: str, files: Mapping[str, str], *, ignored: Sequence[str]) -> bytes:
    root = hashlib.sha256(b"".join(map(bytes.fromhex, files.values())))
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root.hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": sorted({*IGNORED, *ignored}),
            },
            "resources": [{"name": file, "algorithm": "sha256", "digest": digest} for file, digest in files.items()],
        },
    }
    return json.dumps(statement).encode()


def _inside(path: Path, beside: Sequence[Path]) -> list[str]:
    """The names within the folder of what is left out of it."""
    root = path.resolve()
    resolved = (each.resolve() for each in beside)
    return [each.relative_to(root).as_posix() for each in resolved if root in each.parents]


def _authenticated(payload: bytes) -> bytes:
    """What is signed: DSSE's encoding of the payload with its type."""
    return f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload


def _fits(bundle: SignatureBundle, key: TrustedKey) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.key.verify(bundle.signature, _authenticated(bundle.payload), _ecdsa(key.key))
    except InvalidSignature:
        return False
    return True


def _ecdsa(key: "EllipticCurvePublicKey") -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    algorithm: HashAlgorithm = getattr(hashes, CURVES[key.curve.name])()
    return ec.ECDSA(algorithm)


def _private_key(path: Path, password: str) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password.encode() or None)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", field="key") from error
    except (ValueError, TypeError) as error:
        raise Refused(
            f"{path} is no private key in PEM form, or wants another password: {error}", field="key"
        ) from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise Refused(f"{path} is no key on an elliptic curve, which the format wants", field="key")
    return key


def _public_key(path: Path) -> TrustedKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", field="key") from error
    except ValueError as error:
        raise Refused(f"{path} is no public key in PEM form: {error}", field="key") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise Refused(f"{path} is no key on an elliptic curve, which the format wants", field="key")
    return _trusted(key, where=str(path))


def _trusted(key: "EllipticCurvePublicKey", *, where: str) -> TrustedKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if key.curve.name not in CURVES:
        raise Refused(f"{where} is on the curve {key.curve.name}; known are {', '.join(CURVES)}", field="key")
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return TrustedKey(hashlib.sha256(pem).hexdigest(), key)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _difference(signed: Mapping[str, str], found: Mapping[str, str]) -> str:
    """The first file that differs, in words."""
    for name in sorted({*signed, *found}):
        if name not in found:
            return f"{name} was signed and is not there"
        if name not in signed:
            return f"{name} was not signed"
        if signed[name] != found[name]:
            return f"{name} was changed"
    return "the files are in another order"
