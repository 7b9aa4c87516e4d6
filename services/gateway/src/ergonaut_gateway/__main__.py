"""`python -m ergonaut_gateway`."""

import gc
import os
import sys

LEFT_OUT = ("aiohttp", "rich")
"""What libraries of ours load wherever it is installed, for what a gateway has no use of: NATS over WebSockets and coloured logs.
Both take a fifth of the time to start, and some 10 MB."""

if __name__ == "__main__":
    # numpy reads this when it is loaded. Models are run by onnxruntime, so the threads that it would start are never used, and a
    # parent of workers must have none.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if not os.environ.get("ERGONAUT_NATS_URL", "").startswith("ws"):
        # To an import, a module that is None is not installed.
        sys.modules.update(dict.fromkeys(LEFT_OUT))  # type: ignore[arg-type]

    # What is loaded stays for good. To look through it for garbage thirty times meanwhile took a twelfth of the time to start.
    gc.disable()
    from ergonaut_gateway.process import start

    gc.freeze()
    gc.enable()
    start()
