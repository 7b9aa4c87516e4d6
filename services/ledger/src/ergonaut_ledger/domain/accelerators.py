"""The power that an accelerator's board may draw, to tell whether a lower limit would matter. Asked for by `recommending`.

Watts are the makers' own, from NVIDIA's data sheets of each product (maximum thermal design power, the default power limit).
"""

BOARD_WATTS: tuple[tuple[str, float], ...] = (
    # The more precise name comes first: a PCIe board has another limit than the module of the same chip.
    ("H100-80GB-PCIE", 350.0),
    ("H100-94GB-NVL", 400.0),
    ("H100-NVL", 400.0),
    ("H100", 700.0),
    ("H200-NVL", 600.0),
    ("H200", 700.0),
    ("A100-40GB-PCIE", 250.0),
    ("A100-80GB-PCIE", 300.0),
    ("A100", 400.0),
    ("V100-PCIE", 250.0),
    ("V100", 300.0),
    ("L40S", 350.0),
    ("L4", 72.0),
    ("T4", 70.0),
    ("RTX-4090", 450.0),
    ("RTX-3090", 350.0),
)


def board_power_watts(accelerator: str) -> float | None:
    """The board's default limit in watts; None for one that is not in the table.

    >>> board_power_watts("H100-80GB"), board_power_watts("NVIDIA H100 PCIe"), board_power_watts("TPU")
    (700.0, None, None)
    """
    name = accelerator.upper().replace("NVIDIA", "").replace("TESLA", "").strip(" -").replace(" ", "-")
    found = next((watts for known, watts in BOARD_WATTS if name == known or name.startswith(f"{known}-")), None)
    # A board of another form than the table knows has a limit that nobody told.
    return None if found is None or ("PCIE" in name and "PCIE" not in _known_as(name)) else found


def _known_as(name: str) -> str:
    return next(known for known, _ in BOARD_WATTS if name == known or name.startswith(f"{known}-"))
