"""`python -m ergonaut_gateway`."""

import os

from ergonaut_common.beginning import begin, loaded

if __name__ == "__main__":
    # numpy reads this when it is loaded. Models are run by onnxruntime, so the threads that it would start are never used, and a
    # parent of workers must have none.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    begin()
    from ergonaut_gateway.process import start

    loaded()
    start()
