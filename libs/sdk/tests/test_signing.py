"""Signatures of models: made and checked here, and both ways against the tool of the format's makers, where that is installed.

`python -m venv .tools/oms && .tools/oms/bin/pip install model-signing==1.1.1 pyopenssl` installs it.
"""

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from ergonaut import signing
from ergonaut.errors import Refused

THEIR_TOOL = Path(__file__).parents[3] / ".tools" / "oms" / "bin" / "model_signing"
THEIRS = Path(__file__).parent / "signed_by_others"
"""A key and a signature by model-signing 1.1.1, of a folder with one file `model.onnx` that holds `model` and a line's end."""


class Keys:
    """A pair of keys in files."""

    def __init__(self, folder: Path, curve: ec.EllipticCurve | None = None, password: str = "") -> None:
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(curve or ec.SECP256R1())
        self.private, self.public = folder / "key.pem", folder / "key.pub"
        hidden: KeySerializationEncryption = NoEncryption()
        if password:
            hidden = BestAvailableEncryption(password.encode())
        self.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
        self.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        self.trusted = signing.read_keys([self.public])


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model" / "parts").mkdir(parents=True)
    (tmp_path / "model" / "model.onnx").write_bytes(b"model\n")
    (tmp_path / "model" / "parts" / "weights").write_bytes(b"1 2 3")
    return tmp_path / "model"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_was_signed_is_verified_as_a_folder_and_as_one_file(
    curve: ec.EllipticCurve, model: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "more", curve, password="secret")
    for path in (model, model / "model.onnx"):
        bundle = signing.sign(path, keys.private, password="secret")
        assert signing.verify(path, bundle, keys.trusted).id == keys.trusted[0].id


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda model: (model / "model.onnx").write_bytes(b"other"), "model.onnx was changed"),
        (lambda model: (model / "more").write_bytes(b""), "more was not signed"),
        (lambda model: (model / "parts" / "weights").unlink(), "parts/weights was signed and is not there"),
    ],
)
def test_a_model_that_was_changed_does_not_fit_its_signature(change: Any, told: str, model: Path, keys: Keys) -> None:
    bundle = signing.sign(model, keys.private)
    change(model)
    with pytest.raises(Refused, match=f"does not fit .*: {told}"):
        signing.verify(model, bundle, keys.trusted)


def test_a_signature_beside_the_model_and_what_git_keeps_are_left_out(model: Path, keys: Keys) -> None:
    beside = model / "model.sig"
    bundle = signing.sign(model, keys.private, beside=[beside])
    beside.write_text(bundle)
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("ref")
    signing.verify(model, bundle, keys.trusted, beside=[beside])
    with pytest.raises(Refused, match=r"model\.sig was not signed"):
        signing.verify(model, bundle, keys.trusted)


def test_a_key_that_is_not_given_is_no_key_that_signed(model: Path, keys: Keys, tmp_path: Path) -> None:
    bundle = signing.sign(model, Keys(tmp_path / "other").private)
    assert signing.signed_by(signing.read_bundle(bundle), keys.trusted) is None
    with pytest.raises(Refused, match="by a key that is not among the 1 given"):
        signing.verify(model, bundle, keys.trusted)


def forged(bundle: str, change: Any) -> str:
    document = json.loads(bundle)
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    change(document, statement)
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(document)


def _another_digest(document: Any, statement: Any) -> None:
    statement["predicate"]["resources"] = [{"name": ".", "algorithm": "sha256", "digest": "00" * 32}]
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(bytes(32)).hexdigest()


def _half(document: Any, statement: Any) -> None:
    statement["predicate"]["resources"][0]["digest"] = "00" * 32


def _of_another_type(document: Any, statement: Any) -> None:
    document["mediaType"] = "application/json"


def _by_shards(document: Any, statement: Any) -> None:
    statement["predicate"]["serialization"]["method"] = "shards"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_another_digest, "claims the key .* and is not by it; the signature was changed"),
        (_half, "contradicts itself: its files are not those of its subject"),
        (_of_another_type, "is of type 'application/json'"),
        (_by_shards, "lists 'shards', only whole files can be checked"),
        (lambda document, _: document["dsseEnvelope"].clear(), "is no OpenSSF model signature: KeyError"),
        (lambda document, _: document["dsseEnvelope"]["signatures"].clear(), "is no OpenSSF model signature"),
        (lambda _, statement: statement.pop("subject"), "is no OpenSSF model signature"),
    ],
)
def test_a_signature_that_was_changed_is_refused(change: Any, told: str, model: Path, keys: Keys) -> None:
    bundle = forged(signing.sign(model / "model.onnx", keys.private), change)
    with pytest.raises(Refused, match=told):
        signing.verify(model / "model.onnx", bundle, keys.trusted)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"mediaType": 1}'])
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="signature"):
        signing.read_bundle(text)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("sha256") | st.just("00"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_PLACES = (
    ("bundle", "verificationMaterial"),
    ("bundle", "dsseEnvelope"),
    ("envelope", "signatures"),
    ("envelope", "payload"),
    ("signature", "sig"),
    ("statement", "subject"),
    ("statement", "predicate"),
    ("subject", "digest"),
    ("predicate", "serialization"),
    ("predicate", "resources"),
    ("resource", "name"),
    ("resource", "digest"),
    ("resource", "algorithm"),
)


@given(place=st.sampled_from(_PLACES), value=_ANY, sig=st.binary(max_size=80))
def test_whatever_stands_in_a_signature_it_is_read_or_refused(place: tuple[str, str], value: Any, sig: bytes) -> None:
    bundle = json.loads((THEIRS / "model.sig").read_text())
    envelope, statement = bundle["dsseEnvelope"], json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    parts = {
        "bundle": bundle,
        "envelope": envelope,
        "signature": envelope["signatures"][0],
        "statement": statement,
        "subject": statement["subject"][0],
        "predicate": statement["predicate"],
        "resource": statement["predicate"]["resources"][0],
    }
    envelope["signatures"][0]["sig"] = base64.b64encode(sig).decode()
    parts[place[0]][place[1]] = value
    if place != ("envelope", "payload"):
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    trusted = signing.read_keys([THEIRS / "key.pub"])
    try:
        key = signing.signed_by(signing.read_bundle(json.dumps(bundle)), trusted)
    except Refused:
        return
    assert key is None


def test_keys_that_cannot_be_used_are_named(tmp_path: Path, keys: Keys, model: Path) -> None:
    other = tmp_path / "rsa.pub"
    public = rsa.generate_private_key(65537, 2048).public_key()
    other.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for path, told in ((other, "no key on an elliptic curve"), (model / "model.onnx", "no public key in PEM form")):
        with pytest.raises(Refused, match=told):
            signing.read_keys([path])
    with pytest.raises(Refused, match="no private key in PEM form"):
        signing.sign(model, keys.public)
    koblitz = Keys.__new__(Keys)
    with pytest.raises(Refused, match="on the curve secp256k1; known are secp256r1"):
        Keys.__init__(koblitz, tmp_path / "koblitz", ec.SECP256K1())


def test_a_signature_of_the_makers_of_the_format_is_verified(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"model\n")
    signing.verify(tmp_path, (THEIRS / "model.sig").read_text(), signing.read_keys([THEIRS / "key.pub"]))


@pytest.mark.skipif(not THEIR_TOOL.exists(), reason=f"needs {THEIR_TOOL}; the file's head says how to install it")
@pytest.mark.parametrize("part", ["", "model.onnx"])
def test_the_makers_of_the_format_verify_ours_and_we_verify_theirs(
    part: str, model: Path, keys: Keys, tmp_path: Path
) -> None:
    path, ours, theirs = model / part, tmp_path / "ours.sig", tmp_path / "theirs.sig"
    ours.write_text(signing.sign(path, keys.private))

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([THEIR_TOOL, *arguments], capture_output=True, text=True, timeout=60)

    verifying = ("verify", "key", path, "--public_key", keys.public, "--signature", ours)
    assert "Verification succeeded" in run(*verifying).stdout
    signed = run("sign", "key", path, "--private_key", keys.private, "--signature", theirs)
    assert signed.returncode == 0, signed.stderr
    signing.verify(path, theirs.read_text(), keys.trusted)
    (model / "model.onnx").write_bytes(b"tampered")
    assert run(*verifying).returncode != 0
