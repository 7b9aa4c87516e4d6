"""Endpoints as people write them: in a YAML or JSON file, or as `champion=digits@1:90` on a command line.

name: digits
routes:
  - {name: champion, model: digits, version: "1", weight: 90}
  - {name: canary, model: digits, version: "2", weight: 10}
mirrors:
  - {model: digits, version: "3", share: 0.1}
key_parameter: user
slow_milliseconds: 20
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ergonaut.errors import Refused

if TYPE_CHECKING:
    from ergonaut.api.inference.v1 import endpoints_pb2 as pb

_ROUTE = re.compile(r"(?P<name>[^=@:]+)=(?P<model>[^=@:]+)(@(?P<version>[^=@:]*))?(:(?P<weight>[0-9.]+))?")
_MIRROR = re.compile(r"(?P<model>[^=@:]+)(@(?P<version>[^=@:]*))?(:(?P<share>[0-9.]+))?")


def _as_text(value: object) -> object:
    """A version written without quotation marks is a number in YAML."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Version = Annotated[str, BeforeValidator(_as_text)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RouteFile(_Part):
    """One way that requests can go."""

    name: str
    model: str
    version: Version = ""
    weight: float = 1.0


class MirrorFile(_Part):
    """Requests that are also sent elsewhere."""

    model: str
    version: Version = ""
    share: float = 1.0


class EndpointFile(_Part):
    """The whole file."""

    name: str
    routes: tuple[RouteFile, ...] = Field(min_length=1)
    mirrors: tuple[MirrorFile, ...] = ()
    key_parameter: str = ""
    slow_milliseconds: float = 0.0
    because: str = ""

    def told(self) -> "pb.Endpoint":
        """As the gateway is told."""
        from ergonaut.api.inference.v1 import endpoints_pb2 as pb

        return pb.Endpoint(
            name=self.name,
            routes=[pb.Route(**route.model_dump()) for route in self.routes],
            mirrors=[pb.Mirror(**mirror.model_dump()) for mirror in self.mirrors],
            key_parameter=self.key_parameter,
            slow_milliseconds=self.slow_milliseconds,
            because=self.because,
        )


def load_endpoint(path: Path) -> EndpointFile:
    """Read a file. Raises Refused, naming the file and the field."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        raise Refused(f"{path} is neither YAML nor JSON: {error}") from error
    return read_endpoint(document, where=str(path))


def read_endpoint(document: Any, *, where: str) -> EndpointFile:
    """Check what a file says. Raises Refused."""
    try:
        return EndpointFile.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Refused(f"{where}: {field or 'the whole'}: {first['msg']}") from None


def read_route(text: str) -> RouteFile:
    """A route as `name=model@version:weight`; version and weight may be left out. Raises Refused.

    >>> read_route("canary=digits@2:10")
    RouteFile(name='canary', model='digits', version='2', weight=10.0)
    """
    found = _ROUTE.fullmatch(text)
    if found is None:
        raise Refused(f"{text!r} is no route; write it as NAME=MODEL@VERSION:WEIGHT, say canary=digits@2:10")
    return RouteFile(
        name=found["name"], model=found["model"], version=found["version"] or "", weight=_number(found["weight"], text)
    )


def read_mirror(text: str) -> MirrorFile:
    """A mirror as `model@version:share`; version and share may be left out. Raises Refused.

    >>> read_mirror("digits@3:0.1")
    MirrorFile(model='digits', version='3', share=0.1)
    """
    found = _MIRROR.fullmatch(text)
    if found is None:
        raise Refused(f"{text!r} is no mirror; write it as MODEL@VERSION:SHARE, say digits@3:0.1")
    return MirrorFile(model=found["model"], version=found["version"] or "", share=_number(found["share"], text))


def with_weights(endpoint: "pb.Endpoint", weights: Sequence[str]) -> "pb.Endpoint":
    """The same endpoint with other weights, each as `route=weight`; routes that are not named keep theirs. Raises Refused."""
    known = {route.name: route for route in endpoint.routes}
    for text in weights:
        name, _, weight = text.partition("=")
        if name not in known or not weight:
            raise Refused(f"{text!r} is no weight; write it as ROUTE=WEIGHT, routes are {', '.join(known)}")
        known[name].weight = _number(weight, text)
    return endpoint


def _number(text: str | None, whole: str) -> float:
    if text is None:
        return 1.0
    try:
        return float(text)
    except ValueError:
        raise Refused(f"{whole!r} ends in no number") from None
