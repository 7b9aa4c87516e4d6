"""Google Cloud: the metadata server, which is known by the header `Metadata-Flavor` in both directions."""

from ergonaut.metering.clouds.asking import Cloud, Found, MetadataService, Pue

_OK = 200
_HEADERS = {"Metadata-Flavor": "Google"}
_ROOT = "/computeMetadata/v1/instance"


def ask(service: MetadataService) -> Found | None:
    """The region, which is the zone's name without its last letter, and the machine type."""
    zone = _told(service, "zone")
    if zone is None or "-" not in zone:
        return None
    # Zones of more than a letter, such as `us-central1-ai1a`, need not stand where the rest of the region does.
    region, _, part = zone.rpartition("-")
    return Found(region if len(part) == 1 else zone, _told(service, "machine-type") or "")


def _told(service: MetadataService, name: str) -> str | None:
    answer = service.ask(f"{_ROOT}/{name}", _HEADERS)
    if answer.status != _OK or answer.headers.get("metadata-flavor") != "Google":
        return None
    # Names come with their project, as in `projects/1234/zones/europe-west1-b`.
    return answer.text.strip().rpartition("/")[2]


CLOUD = Cloud(
    name="gcp",
    vendor="Google",
    ask=ask,
    # Google names the place of each region; the zone is the grid there.
    zones={
        "us-central1": "US-IA", "us-east1": "US-SC", "us-east4": "US-VA", "us-east5": "US-OH", "us-south1": "US-TX",
        "us-west1": "US-OR", "us-west2": "US-CA", "us-west3": "US-UT", "us-west4": "US-NV",
        "northamerica-northeast1": "CA-QC", "northamerica-northeast2": "CA-ON", "northamerica-south1": "MX",
        "southamerica-east1": "BR", "southamerica-west1": "CL", "europe-central2": "PL", "europe-north1": "FI",
        "europe-north2": "SE", "europe-southwest1": "ES", "europe-west1": "BE", "europe-west2": "GB",
        "europe-west3": "DE", "europe-west4": "NL", "europe-west6": "CH", "europe-west8": "IT", "europe-west9": "FR",
        "europe-west10": "DE", "europe-west12": "IT", "africa-south1": "ZA", "me-central1": "QA", "me-central2": "SA",
        "me-west1": "IL", "asia-east1": "TW", "asia-east2": "HK", "asia-northeast1": "JP", "asia-northeast2": "JP",
        "asia-northeast3": "KR", "asia-south1": "IN", "asia-south2": "IN", "asia-southeast1": "SG",
        "asia-southeast2": "ID", "asia-southeast3": "TH", "australia-southeast1": "AU", "australia-southeast2": "AU",
    },
    source="https://cloud.google.com/compute/docs/regions-zones",
    pue=Pue(1.10, 2023, "https://www.datacenterdynamics.com/en/news/aws-global-data-centers-achieved-pue-of-115-in-2023/"),
)  # fmt: skip
