"""The power that an accelerator's board may draw, to tell whether a lower limit would matter. Asked for by `recommending`.

Watts are the makers' own, from NVIDIA's data sheets of each product (maximum thermal design power, the default power limit).
"""

import re

BOARD_WATTS: tuple[tuple[str, float], ...] = (
    ("H200 NVL", 600.0),
    ("H200", 700.0),
    ("H100 NVL", 400.0),
    ("H100 PCIE", 350.0),
    ("H100", 700.0),
    ("A100 80GB PCIE", 300.0),
    ("A100 40GB PCIE", 250.0),
    ("A100", 400.0),
    ("V100 PCIE", 250.0),
    ("V100", 300.0),
    ("L40S", 350.0),
    ("L4", 72.0),
    ("T4", 70.0),
    ("RTX 4090", 450.0),
    ("RTX 3090", 350.0),
)
"""Boards by the words of their names; of one chip the more precise name comes first."""

_OF_NO_ACCOUNT = re.compile(r"NVIDIA|TESLA|GEFORCE|SXM\d*|HBM\w*|\d+GB")
"""Words that a name may have besides; any other, such as `MIG` or `LAPTOP`, makes it a board that is not in the table."""


def board_power_watts(accelerator: str, drawn_watts: float) -> float | None:
    """The board's default limit in watts, of one that drew so much; None where that is not certain.

    Agents leave `PCIe` out of a name, and a card of that form has a lower limit than the module of the same chip: what it drew
    tells the module, where it is more than the card can draw.

    >>> board_power_watts("H100-80GB", 600.0), board_power_watts("NVIDIA H100 PCIe", 340.0), board_power_watts("TPU", 90.0)
    (700.0, 350.0, None)
    >>> board_power_watts("H100-80GB", 340.0)
    """
    words = set(re.split(r"[\s-]+", accelerator.upper()))
    board = next((each for each in BOARD_WATTS if words.issuperset(each[0].split())), None)
    if board is None or not all(_OF_NO_ACCOUNT.fullmatch(word) for word in words - set(board[0].split())):
        return None
    cards = [watts for name, watts in BOARD_WATTS if name.endswith(" PCIE") and name.split()[0] == board[0]]
    return board[1] if drawn_watts > max(cards, default=0.0) else None
