"""Amazon Web Services: the instance identity document, by a session token (IMDSv2)."""

import json
import re

from ergonaut.metering.clouds.asking import Cloud, Found, MetadataService, Pue

_OK = 200
# A token outlives the one request that it is for.
_TOKEN_SECONDS = 60


def ask(service: MetadataService) -> Found | None:
    """The region and instance type that the identity document tells; an outpost's own name in place of the region."""
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
    token = service.ask("/latest/api/token", lifetime, method="PUT")
    if token.status != _OK or not token.text.strip():
        return None
    headers = {"X-aws-ec2-metadata-token": token.text.strip()}
    answer = service.ask("/latest/dynamic/instance-identity/document", headers)
    if answer.status != _OK:
        return None
    document = json.loads(answer.text)
    return Found(_place(str(document["region"]), document["availabilityZone"]), str(document["instanceType"]))


def _place(region: str, availability_zone: object) -> str:
    """The region of an availability zone in it. A Local or Wavelength Zone names its parent too, but may be a thousand
    kilometres from that on another grid, so it is told by its own name, which stands in no table."""
    if not isinstance(availability_zone, str):
        return f"{region} without an availability zone"
    return region if re.fullmatch(re.escape(region) + "[a-z]", availability_zone) else availability_zone


CLOUD = Cloud(
    name="aws",
    vendor="Amazon",
    ask=ask,
    # A region's code names its city or state, which AWS lists; the zone is the grid there.
    zones={
        "us-east-1": "US-VA", "us-east-2": "US-OH", "us-west-1": "US-CA", "us-west-2": "US-OR",
        "us-gov-east-1": "US-OH", "us-gov-west-1": "US-OR", "ca-central-1": "CA-QC", "ca-west-1": "CA-AB",
        "mx-central-1": "MX", "sa-east-1": "BR", "eu-central-1": "DE", "eu-central-2": "CH", "eu-north-1": "SE",
        "eu-south-1": "IT", "eu-south-2": "ES", "eu-west-1": "IE", "eu-west-2": "GB", "eu-west-3": "FR",
        "af-south-1": "ZA", "il-central-1": "IL", "me-central-1": "AE", "me-south-1": "BH", "ap-east-1": "HK",
        "ap-east-2": "TW", "ap-northeast-1": "JP", "ap-northeast-2": "KR", "ap-northeast-3": "JP",
        "ap-south-1": "IN", "ap-south-2": "IN", "ap-southeast-1": "SG", "ap-southeast-2": "AU",
        "ap-southeast-3": "ID", "ap-southeast-4": "AU", "ap-southeast-5": "MY", "ap-southeast-7": "TH",
        "cn-north-1": "CN", "cn-northwest-1": "CN",
    },
    source="https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html",
    pue=Pue(1.15, 2023, "https://www.datacenterdynamics.com/en/news/aws-global-data-centers-achieved-pue-of-115-in-2023/"),
)  # fmt: skip
