"""Predict the held-out digits through the served endpoint, over HTTP and gRPC, with a client that we did not write.

python predict.py held_out.npz
"""

import argparse
import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

from ergonaut.local import Home

ACCURACY_MIN = 0.95


def predicted_over_http(images: NDArray[np.float32]) -> NDArray[np.int64]:
    """Labels from the endpoint's HTTP door."""
    home = Home.from_environment()
    client = tritonclient.http.InferenceServerClient(home.addresses().gateway_http)
    tensor = tritonclient.http.InferInput("X", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    answer = client.infer("digits", [tensor], headers={"authorization": f"Bearer {home.client_key()}"})
    return np.asarray(answer.as_numpy("label"))


def predicted_over_grpc(images: NDArray[np.float32]) -> NDArray[np.int64]:
    """Labels from the endpoint's gRPC door."""
    home = Home.from_environment()
    client = tritonclient.grpc.InferenceServerClient(home.addresses().services["gateway"])
    tensor = tritonclient.grpc.InferInput("X", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    answer = client.infer("digits", [tensor], headers={"authorization": f"Bearer {home.client_key()}"})
    return np.asarray(answer.as_numpy("label"))


def main() -> None:
    """Print the accuracy over both doors; fail where it is too low."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("held_out", help="held_out.npz, as train.py wrote it")
    held_out = np.load(parser.parse_args().held_out)
    for door, predict in (("HTTP", predicted_over_http), ("gRPC", predicted_over_grpc)):
        accuracy = float(np.mean(predict(held_out["images"]) == held_out["labels"]))
        print(f"accuracy over {door}: {accuracy:.4f} on {len(held_out['labels'])} held-out images")
        if accuracy < ACCURACY_MIN:
            sys.exit(f"the accuracy over {door} is below {ACCURACY_MIN}")


if __name__ == "__main__":
    main()
