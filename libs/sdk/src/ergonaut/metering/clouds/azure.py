"""Microsoft Azure: the instance metadata service, which wants the header `Metadata` and no proxy's."""

import json

from ergonaut.metering.clouds.asking import Cloud, Found, MetadataService, Pue

_OK = 200
# The first version that tells of edge zones.
_PATH = "/metadata/instance/compute?api-version=2021-03-01"


def ask(service: MetadataService) -> Found | None:
    """The location and the size of the virtual machine; of one in an edge zone, which lies far off its region, that zone."""
    answer = service.ask(_PATH, {"Metadata": "true"})
    if answer.status != _OK:
        return None
    document = json.loads(answer.text)
    edge = (document.get("extendedLocation") or {}).get("name")
    return Found(str(edge or document["location"]).lower(), str(document["vmSize"]))


CLOUD = Cloud(
    name="azure",
    vendor="Microsoft Corporation",
    ask=ask,
    # Microsoft names the place of each region; the zone is the grid there.
    zones={
        "eastus": "US-VA", "eastus2": "US-VA", "centralus": "US-IA", "northcentralus": "US-IL",
        "southcentralus": "US-TX", "westus": "US-CA", "westus2": "US-WA", "westus3": "US-AZ", "westcentralus": "US-WY",
        "canadacentral": "CA-ON", "canadaeast": "CA-QC", "mexicocentral": "MX", "brazilsouth": "BR", "chilecentral": "CL",
        "northeurope": "IE", "westeurope": "NL", "uksouth": "GB", "ukwest": "GB", "francecentral": "FR",
        "francesouth": "FR", "germanywestcentral": "DE", "germanynorth": "DE", "swedencentral": "SE",
        "norwayeast": "NO", "norwaywest": "NO", "switzerlandnorth": "CH", "switzerlandwest": "CH",
        "polandcentral": "PL", "italynorth": "IT", "spaincentral": "ES", "austriaeast": "AT", "belgiumcentral": "BE",
        "denmarkeast": "DK", "southafricanorth": "ZA", "southafricawest": "ZA", "uaenorth": "AE", "uaecentral": "AE",
        "qatarcentral": "QA", "israelcentral": "IL", "southeastasia": "SG", "eastasia": "HK", "japaneast": "JP",
        "japanwest": "JP", "koreacentral": "KR", "koreasouth": "KR", "centralindia": "IN", "southindia": "IN",
        "westindia": "IN", "indonesiacentral": "ID", "malaysiawest": "MY", "australiaeast": "AU",
        "australiasoutheast": "AU", "australiacentral": "AU", "newzealandnorth": "NZ",
    },
    source="https://learn.microsoft.com/en-us/azure/reliability/regions-list",
    pue=Pue(1.18, 2023, "https://www.datacenterdynamics.com/en/news/aws-global-data-centers-achieved-pue-of-115-in-2023/"),
)  # fmt: skip
