"""Clouds are asked at the wire: servers that answer, and refuse, as each cloud's metadata service does."""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ergonaut.carbon import yearly_factor
from ergonaut.errors import Refused
from ergonaut.metering import Place, intensity_from, place_of_host
from ergonaut.metering.clouds import MetadataService, known_clouds
from ergonaut.metering.clouds.asking import ADDRESS, ANSWER_SECONDS_MAX
from ergonaut.metering.meters import HostContext

Answers = Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], str]]


@contextmanager
def serving(answers: Answers) -> Iterator[MetadataService]:
    """A metadata service on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, text = answers(self)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_PUT(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield MetadataService("127.0.0.1", server.server_address[1], seconds_max=20)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def aws(region: str = "eu-north-1", availability_zone: str | None = "") -> Answers:
    zone = f"{region}a" if availability_zone == "" else availability_zone

    def answer(asked: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], str]:
        if asked.path == "/latest/api/token":
            lifetime = asked.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if asked.command != "PUT" or not lifetime.isdecimal():
                return 400, {}, ""
            return 200, {"X-aws-ec2-metadata-token-ttl-seconds": lifetime}, "AQAAA-token=="
        if asked.headers.get("X-aws-ec2-metadata-token") != "AQAAA-token==":
            return 401, {}, "Unauthorized"
        if asked.path != "/latest/dynamic/instance-identity/document":
            return 404, {}, "Not Found"
        return 200, {}, json.dumps({"region": region, "instanceType": "m7a.large", "availabilityZone": zone})

    return answer


def gcp(zone: str = "europe-west1-b") -> Answers:
    told = {
        "/computeMetadata/v1/instance/zone": f"projects/4711/zones/{zone}",
        "/computeMetadata/v1/instance/machine-type": "projects/4711/machineTypes/n2-standard-4",
    }

    def answer(asked: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], str]:
        if asked.headers.get("Metadata-Flavor") != "Google":
            return 403, {}, "Missing Metadata-Flavor:Google header."
        if asked.path not in told:
            return 404, {"Metadata-Flavor": "Google"}, ""
        return 200, {"Metadata-Flavor": "Google"}, told[asked.path]

    return answer


def azure(location: str = "westeurope", edge: str | None = None) -> Answers:
    # The fields of the version from which on edge zones are told, 2021-03-01; of an ordinary machine they are empty.
    extended = {} if edge is None else {"extendedLocation": {"type": "edgeZone" if edge else "", "name": edge}}

    def answer(asked: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], str]:
        if asked.headers.get("Metadata") != "true" or asked.headers.get("X-Forwarded-For"):
            return 400, {}, '{"error": "Bad request"}'
        if not asked.path.startswith("/metadata/instance/compute?api-version=20"):
            return 404, {}, ""
        told = {"location": location, "vmSize": "Standard_D2s_v5", "osType": "Linux"}
        return 200, {}, json.dumps(told | (extended if asked.path.rpartition("=")[2] >= "2021-03-01" else {}))

    return answer


def hetzner(centre: str = "hel1-dc2") -> Answers:
    def answer(asked: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], str]:
        return (200, {}, centre) if asked.path == "/hetzner/v1/metadata/availability-zone" else (404, {}, "")

    return answer


def host(root: Path, vendor: str = "", *, guest: bool = True, boot_id: str = "boot-1") -> HostContext:
    for path, text in (
        ("sys/class/dmi/id/sys_vendor", vendor),
        ("proc/cpuinfo", f"processor : 0\nflags : fpu sse{' hypervisor' if guest else ''}\n\n"),
        ("proc/sys/kernel/random/boot_id", boot_id),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n")
    return HostContext(root=root)


@pytest.mark.parametrize(
    ("answers", "zone", "provider", "region", "instance_type"),
    [
        (aws(), "SE", "aws", "eu-north-1", "m7a.large"),
        (gcp(), "BE", "gcp", "europe-west1", "n2-standard-4"),
        (azure(), "NL", "azure", "westeurope", "Standard_D2s_v5"),
        (hetzner(), "FI", "hetzner", "hel1", ""),
    ],
)
def test_each_cloud_is_understood_and_never_taken_for_another(
    answers: Answers, zone: str, provider: str, region: str, instance_type: str, tmp_path: Path
) -> None:
    with serving(answers) as service:
        place = place_of_host({}, host=host(tmp_path), service=service)
    assert (place.zone, place.provider, place.region, place.instance_type) == (zone, provider, region, instance_type)
    assert "https://" in place.source


@pytest.mark.parametrize(
    ("answers", "region"),
    [
        (aws("us-west-2", "us-west-2-lax-1a"), "us-west-2-lax-1a"),
        (aws("us-east-1", "us-east-1-wl1-bos-wlz-1"), "us-east-1-wl1-bos-wlz-1"),
        (gcp("us-central1-ai1a"), "us-central1-ai1a"),
        (azure("westus", edge="microsoftlosangeles1"), "microsoftlosangeles1"),
    ],
)
def test_an_outpost_is_not_taken_to_stand_on_its_regions_grid(answers: Answers, region: str, tmp_path: Path) -> None:
    with serving(answers) as service:
        place = place_of_host({}, host=host(tmp_path), service=service)
    assert (place.zone, place.region) == ("", region)
    assert f"region {region} is in no table; set ERGONAUT_ZONE" in place.source
    assert intensity_from({}, place.zone).kind == "world-average"


def test_a_machine_of_azure_without_an_edge_zone_stands_in_its_region(tmp_path: Path) -> None:
    with serving(azure(edge="")) as service:
        assert place_of_host({}, host=host(tmp_path), service=service).zone == "NL"


def test_an_identity_document_that_tells_no_availability_zone_tells_no_place(tmp_path: Path) -> None:
    with serving(aws(availability_zone=None)) as service:
        assert place_of_host({}, host=host(tmp_path), service=service).zone == ""


def test_a_region_of_no_table_is_told_without_a_zone(tmp_path: Path) -> None:
    with serving(aws("mars-north-1")) as service:
        place = place_of_host({}, host=host(tmp_path), service=service)
    assert (place.zone, place.provider, place.region) == ("", "aws", "mars-north-1")
    assert "ERGONAUT_ZONE" in place.source


def refusing(asked: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], str]:
    return 404, {}, "not here"


def agreeing(asked: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], str]:
    """A captive portal: says yes to everything."""
    return 200, {}, "<html>Please sign in</html>"


def sending_elsewhere(asked: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], str]:
    return 302, {"Location": "http://example.org/"}, ""


@pytest.mark.parametrize("answers", [refusing, agreeing, sending_elsewhere])
def test_what_answers_like_no_cloud_leaves_the_place_unknown(answers: Answers, tmp_path: Path) -> None:
    with serving(answers) as service:
        place = place_of_host({}, host=host(tmp_path), service=service)
    assert (place.zone, place.provider) == ("", "")
    assert place.source.startswith("unknown")
    intensity = intensity_from({}, place.zone)
    assert (intensity.grams_per_kwh, intensity.kind) == (475.0, "world-average")


def test_a_service_that_never_answers_costs_a_second_at_most(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        service = MetadataService("127.0.0.1", silent.getsockname()[1])
        began = time.monotonic()
        place = place_of_host({}, host=host(tmp_path), service=service)
        took = time.monotonic() - began
    assert place.zone == ""
    # The bound, and some for a busy machine to wake up.
    assert took < ANSWER_SECONDS_MAX + 1.0


def test_only_the_link_local_address_is_asked() -> None:
    assert ADDRESS == "169.254.169.254"
    assert MetadataService()._host == ADDRESS


class Nobody(MetadataService):
    """Remembers that it was asked, since what is raised in a thread that asks is heard by nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[object] = []

    def ask(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
        self.asked.append(arguments)
        raise OSError("nobody may be asked")


@pytest.fixture
def nobody() -> Iterator[Nobody]:
    service = Nobody()
    yield service
    assert service.asked == []


@pytest.mark.parametrize(
    ("environment", "zone"), [({"ERGONAUT_ZONE": "DE"}, "DE"), ({"ERGONAUT_CLOUD_METADATA": "off"}, "")]
)
def test_a_place_that_is_set_or_may_not_be_asked_for_is_not_asked_for(
    environment: dict[str, str], zone: str, nobody: Nobody, tmp_path: Path
) -> None:
    place = place_of_host(environment, host=host(tmp_path, "Amazon EC2"), service=nobody)
    assert (place.zone, place.provider) == (zone, "")


def test_a_switch_that_is_neither_on_nor_off_is_refused_by_name(nobody: Nobody, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="neither on nor off") as refused:
        place_of_host({"ERGONAUT_CLOUD_METADATA": "maybe"}, host=host(tmp_path), service=nobody)
    assert refused.value.field == "ERGONAUT_CLOUD_METADATA"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a guest of its hypervisor")
def test_a_computer_of_its_own_asks_nobody(nobody: Nobody, tmp_path: Path) -> None:
    place = place_of_host({}, host=host(tmp_path, "LENOVO", guest=False), service=nobody)
    assert "no cloud's machine" in place.source


def test_firmware_that_names_its_cloud_lets_only_that_be_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], str]:
        asked.append(request.path)
        return hetzner()(request)

    with serving(answer) as service:
        place = place_of_host({}, host=host(tmp_path, "Hetzner"), service=service)
    assert place.region == "hel1"
    assert asked == ["/hetzner/v1/metadata/availability-zone"]


def test_a_place_that_was_found_is_asked_for_once_a_boot(nobody: Nobody, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(gcp("us-central1-a")) as service:
        first = place_of_host({}, home, host=host(tmp_path), service=service)
    assert first.zone == "US-IA"
    assert place_of_host({}, home, host=host(tmp_path), service=nobody) == first
    with serving(gcp("europe-north1-a")) as service:
        after = place_of_host({}, home, host=host(tmp_path, boot_id="boot-2"), service=service)
    assert after.zone == "FI"


def test_an_answer_of_nobody_is_believed_for_an_hour(
    nobody: Nobody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    with serving(refusing) as service:
        unknown = place_of_host({}, home, host=host(tmp_path), service=service)
    assert place_of_host({}, home, host=host(tmp_path), service=nobody) == unknown
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    with serving(hetzner()) as service:
        assert place_of_host({}, home, host=host(tmp_path), service=service).zone == "FI"


def test_who_asks_anew_does_not_have_to_believe_that_nobody_answers(nobody: Nobody, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(refusing) as service:
        unknown = place_of_host({}, home, host=host(tmp_path), service=service)
    assert unknown.may_be_told_later
    with serving(hetzner()) as service:
        known = place_of_host({}, home, host=host(tmp_path), service=service, anew=True)
    assert (known.zone, known.may_be_told_later) == ("FI", False)
    assert place_of_host({}, home, host=host(tmp_path), service=nobody, anew=True) == known


@pytest.mark.parametrize(
    ("answers", "pue"),
    [(aws(), 1.15), (gcp(), 1.10), (azure(), 1.18), (hetzner(), None), (aws("us-west-2", "us-west-2-lax-1a"), None)],
)
def test_a_region_has_the_pue_that_its_cloud_publishes_and_an_outpost_has_none(
    answers: Answers, pue: float | None, tmp_path: Path
) -> None:
    with serving(answers) as service:
        place = place_of_host({}, host=host(tmp_path), service=service)
    assert place.pue == pue
    assert bool(pue) == ("(2023), https://" in place.pue_source)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"boot_id": "boot-1", "place": {"planet": "Mars"}, "asked_at": 1}'])
def test_a_damaged_memory_only_means_to_ask_again(text: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(hetzner()) as service:
        place_of_host({}, home, host=host(tmp_path), service=service)
        (kept,) = home.glob("place-*.json")
        kept.write_text(text)
        assert place_of_host({}, home, host=host(tmp_path), service=service).zone == "FI"


def test_a_home_that_cannot_be_written_to_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    with serving(hetzner()) as service:
        assert place_of_host({}, tmp_path / "home", host=host(tmp_path), service=service).zone == "FI"


def test_every_region_lies_in_a_zone_of_a_country_or_state() -> None:
    for cloud in known_clouds():
        assert cloud.source.startswith("https://")
        assert len(cloud.zones) >= 5
        for region, zone in cloud.zones.items():
            country, _, state = zone.partition("-")
            assert len(country) == 2, (region, zone)
            assert not state or (country in ("US", "CA") and len(state) == 2), (region, zone)


def test_a_region_of_a_country_whose_parts_differ_lies_in_its_part() -> None:
    zones = {region: zone for cloud in known_clouds() for region, zone in cloud.zones.items()}
    assert {zone for zone in zones.values() if zone in ("US", "CA")} == set()
    assert (zones["ca-central-1"], zones["ca-west-1"]) == ("CA-QC", "CA-AB")


def test_every_region_lies_in_a_zone_of_the_table() -> None:
    zones = {zone for cloud in known_clouds() for zone in cloud.zones.values()}
    assert {zone for zone in zones if (known := yearly_factor(zone)) is None or known.stands_for} == set()


def test_nothing_is_a_place_by_itself() -> None:
    assert Place() == Place("", "", "", "", "unknown", None, "", may_be_told_later=False)
