"""What a process does before and after it loads its modules, so that it is there soon. `__main__` calls, before all imports."""

import gc
import os
import sys

LEFT_OUT = ("aiohttp", "rich")
"""What libraries of ours load wherever it is installed, for what no service has a use of: NATS over WebSockets and coloured logs.
Both take a tenth of a second and some 10 MB."""


def begin(*left_out: str) -> None:
    """Leave modules out of what is loaded from here on, those of `LEFT_OUT` and further ones, and look for no garbage."""
    if not os.environ.get("ERGONAUT_NATS_URL", "").startswith("ws"):
        left_out += LEFT_OUT
    # To an import, a module that is None is not installed.
    sys.modules.update(dict.fromkeys(left_out))  # type: ignore[arg-type]
    # What is loaded stays for good. To look through it for garbage thirty times meanwhile took a twelfth of the time to start.
    gc.disable()


def loaded() -> None:
    """From here on look for garbage, in what is made from here on."""
    gc.freeze()
    gc.enable()
