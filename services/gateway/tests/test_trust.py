"""Which files are served: those that are what was deployed, and whose signatures are what the policy wants, at each load anew."""

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ergonaut import signing
from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut_gateway.adapters.signatures import TrustedKeys
from ergonaut_gateway.domain.trust import SignaturePolicy
from ergonaut_gateway.fakes import FakeSignatureChecker
from ergonaut_gateway.ports import SignatureChecker
from ergonaut_gateway.service.models import SIGNATURE_CHARACTERS_MAX

from .conftest import Gateway, Gateways

CONTENT = b"model a"


@pytest.fixture
def digest() -> str:
    return f"sha256-{hashlib.sha256(CONTENT).hexdigest()}"


async def test_under_require_only_what_a_trusted_key_signed_is_served(gateways: Gateways, digest: str) -> None:
    strict = gateways.another(policy=SignaturePolicy.REQUIRE)
    with pytest.raises(Refused, match="signature: the file is not signed, and signature_policy is require; sign it"):
        await strict.deploy(CONTENT)
    with pytest.raises(Refused, match="the file is signed by a key that is not among the trusted ones"):
        await strict.deploy(CONTENT, signature=f"stranger signed {digest}")
    assert (await gateways.registry.entries(), gateways.files.kept, gateways.notes.noted) == ([], {}, {})
    record = await strict.deploy(CONTENT, signature=f"friend signed {digest}")
    assert record.signed_by == "friend"


@pytest.mark.parametrize("policy", SignaturePolicy)
async def test_a_signature_of_another_file_is_refused_whatever_the_policy(
    gateways: Gateways, digest: str, policy: SignaturePolicy
) -> None:
    gateway = gateways.another(policy=policy)
    with pytest.raises(Refused, match="signature: does not fit the file"):
        await gateway.deploy(b"model b", signature=f"friend signed {digest}")
    with pytest.raises(NotFound):
        await gateway.models.get("default", "digits")


@pytest.mark.parametrize("policy", [SignaturePolicy.OFF, SignaturePolicy.WARN])
async def test_under_other_policies_what_is_missing_is_recorded_and_under_warn_told(
    gateways: Gateways, digest: str, policy: SignaturePolicy, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = gateways.another(policy=policy)
    assert (await gateway.deploy(CONTENT)).signed_by == ""
    signed = await gateway.deploy(CONTENT, signature=f"stranger signed {digest}")
    assert (signed.version, signed.signed_by, bool(signed.signature_bundle)) == (2, "", True)
    assert capsys.readouterr().out.count("model not trusted") == (2 if policy is SignaturePolicy.WARN else 0)


async def test_a_file_that_was_deployed_before_the_policy_is_not_loaded_under_it(gateways: Gateways) -> None:
    await gateways.another().deploy(CONTENT)
    strict = gateways.another(policy=SignaturePolicy.REQUIRE)
    await strict.catalogue.load_all()
    with pytest.raises(Unavailable, match="could not be loaded"):
        strict.catalogue.find("default", "digits")


async def test_a_file_that_was_changed_in_the_store_is_not_loaded(gateways: Gateways, digest: str) -> None:
    record = await gateways.another().deploy(CONTENT, signature=f"friend signed {digest}")
    gateways.files.kept["default", record.file] = b"model tampered with"
    restarted = gateways.another()
    await restarted.catalogue.load_all()
    with pytest.raises(Unavailable, match="could not be loaded"):
        restarted.catalogue.find("default", "digits")


async def test_a_record_whose_signature_was_changed_is_not_loaded(gateways: Gateways, digest: str) -> None:
    await gateways.another().deploy(CONTENT, signature=f"friend signed {digest}")

    class Awake(FakeSignatureChecker):
        def check(self, bundle: str, digest: str) -> str:
            raise Refused("was changed", field="signature")

    restarted = gateways.another(checker=Awake())
    await restarted.catalogue.load_all()
    with pytest.raises(Unavailable, match="could not be loaded"):
        restarted.catalogue.find("default", "digits")


async def test_the_same_file_signed_by_another_key_is_a_new_version_and_by_the_same_key_is_not(
    gateways: Gateways, digest: str
) -> None:
    gateway = gateways.another()
    signatures = ("stranger", "stranger", "friend", "friend", "")
    deployed = [await gateway.deploy(CONTENT, signature=f"{by} signed {digest}" if by else "") for by in signatures]
    assert [record.version for record in deployed] == [1, 1, 2, 2, 2]


async def test_a_signature_that_is_too_long_is_refused(gateway: Gateway) -> None:
    with pytest.raises(Refused, match=r"^signature: is longer than 16384 characters$"):
        await gateway.deploy(CONTENT, signature="x" * (SIGNATURE_CHARACTERS_MAX + 1))


class Signer:
    """A pair of keys, of which the public one may be trusted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        self.private, self.public = folder / "key.pem", folder / "key.pub"
        self.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def sign(self, path: Path) -> str:
        return signing.sign(path, self.private)


async def test_trusted_keys_know_their_own_signatures_of_exactly_the_file(
    gateways: Gateways, digest: str, tmp_path: Path
) -> None:
    friend, stranger = Signer(tmp_path / "friend"), Signer(tmp_path / "stranger")
    checker: SignatureChecker = TrustedKeys.load([friend.public])
    folder = tmp_path / "model"
    folder.mkdir()
    file = folder / "model.onnx"
    file.write_bytes(CONTENT)
    for signed in (file, folder):
        assert checker.check(friend.sign(signed), digest) == signing.read_keys([friend.public])[0].id
        assert checker.check(stranger.sign(signed), digest) == ""
    (folder / "more").write_bytes(b"more")
    with pytest.raises(Refused, match="is of 2 files; sign exactly the file that is deployed"):
        checker.check(friend.sign(folder), digest)
    file.write_bytes(b"other")
    for signer in (friend, stranger):
        with pytest.raises(Refused, match="is of another file, or the file was changed"):
            checker.check(signer.sign(file), digest)


async def test_a_gateway_with_real_keys_serves_what_they_signed_after_a_restart_too(
    gateways: Gateways, tmp_path: Path
) -> None:
    friend = Signer(tmp_path / "friend")
    file = tmp_path / "model.onnx"
    file.write_bytes(CONTENT)
    for _ in range(2):
        strict = gateways.another(checker=TrustedKeys.load([friend.public]), policy=SignaturePolicy.REQUIRE)
        await strict.catalogue.load_all()
        record = await strict.deploy(CONTENT, signature=friend.sign(file))
        assert (record.version, len(record.signed_by)) == (1, 64)
        assert strict.catalogue.find("default", "digits").record.version == 1
