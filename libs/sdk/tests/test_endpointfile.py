"""An endpoint's file, and routes on a command line, are read as their writer meant them, or refused with what is wrong."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ergonaut.api.inference.v1 import endpoints_pb2 as pb
from ergonaut.cli import endpoints as commands
from ergonaut.endpointfile import load_endpoint, read_mirror, read_route, with_weights
from ergonaut.errors import Refused

WHOLE = """\
name: digits
routes:
  - {name: champion, model: digits, version: 1, weight: 90}
  - {name: canary, model: digits, version: challenger, weight: 10}
mirrors:
  - {model: digits, version: "3", share: 0.1}
key_parameter: user
slow_milliseconds: 20
because: it is better
"""
ROUTES = "name: a\nroutes: "

app = typer.Typer()
commands.register(app)


def written(folder: Path, text: str) -> Path:
    path = folder / "endpoint.yaml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    assert load_endpoint(written(tmp_path, WHOLE)).told() == pb.Endpoint(
        name="digits",
        routes=[
            pb.Route(name="champion", model="digits", version="1", weight=90),
            pb.Route(name="canary", model="digits", version="challenger", weight=10),
        ],
        mirrors=[pb.Mirror(model="digits", version="3", share=0.1)],
        key_parameter="user",
        slow_milliseconds=20,
        because="it is better",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a", "the whole: "),
        ("a: [", "is neither YAML nor JSON"),
        ("routes: [{name: a, model: b}]", "name: Field required"),
        (ROUTES + "[]", "routes: "),
        (ROUTES + "[{name: a, model: b, wait: 1}]", "routes.0.wait: "),
        (ROUTES + "[{name: a, model: b, weight: much}]", "routes.0.weight: "),
        (ROUTES + "[{name: a, model: b, version: true}]", "routes.0.version: "),
    ],
)
def test_what_is_no_endpoint_is_refused_by_file_and_field(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(Refused) as refused:
        load_endpoint(path)
    assert str(path) in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize("text", ["", "=", "champion", "champion=", "=digits", "a=b@1:ten", "a=b@1:1.2.3", "a=b:-1"])
def test_what_is_no_route_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(Refused, match=r"is no route; write it as|ends in no number"):
        read_route(text)


@pytest.mark.parametrize("text", ["", "@1", "digits:", "digits@1:-1"])
def test_what_is_no_mirror_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(Refused, match="is no mirror; write it as"):
        read_mirror(text)


def test_weights_are_given_by_route_and_the_others_keep_theirs() -> None:
    endpoint = pb.Endpoint(routes=[pb.Route(name="champion", weight=90), pb.Route(name="canary", weight=10)])
    assert [route.weight for route in with_weights(endpoint, ["canary=50"]).routes] == [90, 50]
    for wrong in ("canary", "canary=", "other=5"):
        with pytest.raises(Refused, match="is no weight; write it as ROUTE=WEIGHT, routes are champion, canary"):
            with_weights(endpoint, [wrong])
    with pytest.raises(Refused, match="ends in no number"):
        with_weights(endpoint, ["canary=ten"])


def test_options_that_a_file_would_not_heed_are_refused(tmp_path: Path) -> None:
    path = str(written(tmp_path, WHOLE))
    done = CliRunner().invoke(app, ["endpoints", "apply", path, "--key", "user"])
    assert done.exit_code != 0
    assert "go with --route" in done.stdout + done.stderr
