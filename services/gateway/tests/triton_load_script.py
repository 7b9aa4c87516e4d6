"""Asks again and again with tritonclient, given the HTTP and gRPC addresses and a key, until its standard input ends. What
fails is asked once more after a moment; should that fail, it ends with a traceback. Tells how many answers and failures there
were. A program of its own, as `triton_script.py` is. Not imported by tests.
"""

import sys
import threading
import time

import numpy as np
import tritonclient.grpc
import tritonclient.http

RETRYABLE_GRPC = "StatusCode.UNAVAILABLE"


def asked(module, client, headers):
    x = module.InferInput("x", [1, 3], "FP32")
    x.set_data_from_numpy(np.array([[1, 2, 3]], dtype=np.float32))
    answer = client.infer("doubling", [x], headers=dict(headers))
    assert answer.as_numpy("y").tolist() == [[2, 4, 6]]


def main(http_address, grpc_address, key):
    headers = {"authorization": f"Bearer {key}"}
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    clients = {
        tritonclient.http: tritonclient.http.InferenceServerClient(http_address),
        tritonclient.grpc: tritonclient.grpc.InferenceServerClient(grpc_address),
    }
    answers, failures = 0, []
    while not over.is_set():
        for module, client in clients.items():
            try:
                asked(module, client, headers)
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}")
                if module is tritonclient.grpc and RETRYABLE_GRPC not in str(error):
                    raise
                # At once, gRPC may send it on the same connection, of whose end it is about to learn.
                time.sleep(0.1)
                asked(module, client, headers)
            answers += 1
    sys.stdout.write(f"{answers} {len(failures)}")
    sys.stderr.write("\n".join(failures))


if __name__ == "__main__":
    main(*sys.argv[1:])
