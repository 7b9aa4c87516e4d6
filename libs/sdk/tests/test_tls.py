"""What callers need for TLS: which addresses are called by it, and what is said of files that are wrong."""

from pathlib import Path

import pytest

from ergonaut.channels import open_channel
from ergonaut.errors import Refused
from ergonaut.tls import base_url, channel_credentials, http_context, is_secure


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:7480", "http://127.0.0.1:7480"),
        ("https://models.example:7480", "https://models.example:7480"),
        ("https://models.example:7480/", "https://models.example:7480"),
    ],
)
def test_an_address_is_called_by_tls_where_it_says_so(address: str, url: str) -> None:
    assert base_url(address) == url
    assert is_secure(address) == url.startswith("https")


def test_without_variables_the_usual_authorities_are_trusted_and_nothing_is_shown() -> None:
    assert channel_credentials({}) is not None
    assert http_context({}).get_ca_certs() is not None


@pytest.mark.parametrize("made", [channel_credentials, http_context])
@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (("ERGONAUT_TLS_CA",), "ERGONAUT_TLS_CA: .*missing.pem cannot be read"),
        (("ERGONAUT_TLS_CLIENT_CERTIFICATE", "ERGONAUT_TLS_CLIENT_KEY"), "missing.pem cannot be read"),
        (("ERGONAUT_TLS_CLIENT_CERTIFICATE",), "ERGONAUT_TLS_CLIENT_KEY is missing"),
        (("ERGONAUT_TLS_CLIENT_KEY",), "ERGONAUT_TLS_CLIENT_CERTIFICATE is missing"),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_variable(
    made: object, variables: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    assert callable(made)
    with pytest.raises(Refused, match=told):
        made(dict.fromkeys(variables, str(tmp_path / "missing.pem")))


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(Refused, match=r"ERGONAUT_TLS_CA: .*empty\.pem holds no certificates"):
        http_context({"ERGONAUT_TLS_CA": str(empty)})
    own = {"ERGONAUT_TLS_CLIENT_CERTIFICATE": str(empty), "ERGONAUT_TLS_CLIENT_KEY": str(empty)}
    with pytest.raises(Refused, match="are no certificate and its key"):
        http_context(own)


async def test_a_channel_to_such_an_address_needs_what_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ERGONAUT_TLS_CA", str(tmp_path / "missing.pem"))
    await open_channel("127.0.0.1:1", dict, agent="test").close()
    with pytest.raises(Refused, match="ERGONAUT_TLS_CA"):
        open_channel("https://127.0.0.1:1", dict, agent="test")
