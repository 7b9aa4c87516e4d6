"""`ergonaut models open`: where a model's page is, told without asking anybody."""

import json
import webbrowser

import pytest
import typer
from typer.testing import CliRunner

from ergonaut.cli import models

app = typer.Typer()
models.register(app)
PAGE = "http://127.0.0.1:7480/v2/models/digits/page"


@pytest.fixture(autouse=True)
def _gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERGONAUT_GATEWAY_HTTP_ADDRESS", "127.0.0.1:7480")
    monkeypatch.setenv("ERGONAUT_GATEWAY_ADDRESS", "127.0.0.1:7405")
    monkeypatch.setenv("ERGONAUT_API_KEY", "k")


def test_the_pages_address_is_told_also_that_of_a_version_and_to_programs() -> None:
    run = CliRunner().invoke
    assert run(app, ["models", "open", "digits"]).stdout.strip() == PAGE
    assert run(app, ["models", "open", "digits", "3"]).stdout.strip() == PAGE.replace("/page", "/versions/3/page")
    told = json.loads(run(app, ["models", "open", "digits", "--json"]).stdout)
    assert told == {"name": "digits", "version": "", "page": PAGE}


def test_what_can_be_no_name_is_refused_and_no_browser_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    for arguments in (["../../etc"], ["digits", "a b"], [""]):
        assert CliRunner().invoke(app, ["models", "open", *arguments, "--browser"]).exit_code != 0
    assert opened == []
    assert CliRunner().invoke(app, ["models", "open", "digits", "--browser"]).exit_code == 0
    assert opened == [PAGE]
