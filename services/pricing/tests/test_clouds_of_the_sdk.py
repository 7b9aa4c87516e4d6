"""What the SDK knows of a cloud's regions is what the shipped table of regions says of them."""

import csv
from importlib import resources

from ergonaut.metering.clouds import known_clouds


def test_a_cloud_has_one_pue_and_its_regions_one_grid_in_both_tables() -> None:
    text = (resources.files("ergonaut_pricing") / "tables" / "regions.csv").read_text("utf-8")
    clouds = {cloud.name: cloud for cloud in known_clouds()}
    compared = set()
    for row in csv.DictReader(text.splitlines()):
        cloud = clouds.get(row["provider"])
        if cloud is None:
            continue
        assert cloud.zones[row["region"]] == row["zone"]
        if row["pue_basis"] == "published":
            compared.add(cloud.name)
            assert cloud.pue is not None
            assert (cloud.pue.value, cloud.pue.year) == (float(row["pue"]), int(row["pue_year"]))
    assert compared == {"aws", "gcp", "azure"}
