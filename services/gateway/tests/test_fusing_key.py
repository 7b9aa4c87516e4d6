"""Models that the gateway makes itself are signed by its own key, and under `require` there are none without one."""

from pathlib import Path

import pytest

from ergonaut import signing
from ergonaut.errors import Refused
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.adapters.signatures import OwnKey, TrustedKeys
from ergonaut_gateway.domain.trust import SignaturePolicy
from ergonaut_gateway.fakes import FakeFuser, FakeModelSigner, FakePipelineBook, FakeSignatureChecker
from ergonaut_gateway.ports import ModelSigner, SignatureChecker
from ergonaut_gateway.service.fusing import UNSIGNED

from .conftest import Gateways
from .pipeline_models import classifier, house_of, rows, scaler
from .test_pipelines import scaled
from .test_trust import Signer


@pytest.fixture
def keys(tmp_path: Path) -> Signer:
    signer = Signer(tmp_path / "keys")
    signer.private.chmod(0o600)
    return signer


@pytest.fixture(params=["fake", "own key"])
def pair(request: pytest.FixtureRequest, keys: Signer) -> tuple[ModelSigner, SignatureChecker]:
    """Who signs, and who knows the key."""
    if request.param == "fake":
        return FakeModelSigner(), FakeSignatureChecker()
    trusted = TrustedKeys.load([keys.public])
    return OwnKey.load(keys.private, trusted), trusted


def test_what_is_signed_is_known_as_exactly_that_file(
    pair: tuple[ModelSigner, SignatureChecker], tmp_path: Path
) -> None:
    signer, checker = pair
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"model a")
    other.write_bytes(b"model b")
    digests = {path: f"sha256-{next(iter(signing.digests_of(path).values()))}" for path in (one, other)}
    assert checker.check(signer.sign(one), digests[one])
    with pytest.raises(Refused):
        checker.check(signer.sign(one), digests[other])


async def test_a_pipeline_of_signed_models_is_fused_into_one_that_the_gateway_signs(
    gateways: Gateways, keys: Signer, tmp_path: Path
) -> None:
    trusted, loader = TrustedKeys.load([keys.public]), OnnxLoader()
    gateway = gateways.another(loader, checker=trusted, policy=SignaturePolicy.REQUIRE)
    own = OwnKey.load(keys.private, trusted)
    house = house_of(gateway, loader, FakePipelineBook(), signer=own, must_sign=True)
    for name, content in {"scaler": scaler(), "small": classifier(1)}.items():
        path = tmp_path / name
        path.write_bytes(content)
        await gateway.deploy(content, name, signature=keys.sign(path))
    (fusion,) = (await house.apply(scaled())).fusions
    assert fusion.model, fusion.because
    record = (await gateway.models.get("default", fusion.model)).named("")
    assert record.signed_by
    assert (await house.ask(x=rows()))["label"].shape == (4,)
    # Another gateway, which trusts the key, serves it too.
    other = gateways.another(loader, checker=trusted, policy=SignaturePolicy.REQUIRE)
    await other.catalogue.load_all()
    assert other.catalogue.is_current(record)


async def test_where_nothing_unsigned_is_served_and_there_is_no_key_nothing_is_merged_and_it_is_told_why(
    gateways: Gateways,
) -> None:
    fuser, loader = FakeFuser(), OnnxLoader()
    house = house_of(gateways.another(loader), loader, FakePipelineBook(), fuser, must_sign=True)
    await house.deploy(scaler=scaler(), small=classifier(1))
    (fusion,) = (await house.apply(scaled())).fusions
    assert (fusion.model, fusion.because, fuser.recipes) == ("", UNSIGNED, [])
    assert (await house.ask(x=rows()))["label"].shape == (4,)


def test_a_key_that_cannot_be_used_is_refused_at_the_start(keys: Signer, tmp_path: Path) -> None:
    trusted = TrustedKeys.load([keys.public])
    stranger = Signer(tmp_path / "stranger")
    stranger.private.chmod(0o600)
    with pytest.raises(Refused, match=r"^fusing_key: .*key\.pem is not trusted; add its public key to signature_keys"):
        OwnKey.load(stranger.private, trusted)
    with pytest.raises(Refused, match=r"^fusing_key: .*absent\.pem cannot be read: No such file"):
        OwnKey.load(tmp_path / "absent.pem", trusted)
    keys.public.chmod(0o600)
    with pytest.raises(Refused, match=r"^fusing_key: .*key\.pub is no private key in PEM form"):
        OwnKey.load(keys.public, trusted)
    keys.private.chmod(0o644)
    with pytest.raises(Refused, match=r"^fusing_key: .*key\.pem can be read or written by every user"):
        OwnKey.load(keys.private, trusted)
