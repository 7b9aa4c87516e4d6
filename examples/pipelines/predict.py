"""Asks pipelines for the held-out images one by one, and tells how many they get right: predict.py NAME... [--held-out FILE]"""

import sys
from pathlib import Path

import numpy as np

from ergonaut.client import Client


def main(names: list[str], held_out: Path) -> None:
    """Ask each pipeline."""
    file = np.load(held_out)
    with Client() as client:
        for name in names:
            right = sum(
                asked(client, name, image) == label for image, label in zip(file["images"], file["labels"], strict=True)
            )
            print(f"{name}: {right / len(file['labels']):.1%} of {len(file['labels'])} right")


def asked(client: Client, name: str, image: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> int:
    """The digit that a pipeline sees."""
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, len(image)], "data": image.tolist()}
    outputs = {output["name"]: output for output in client.models.predict(name, [tensor])}
    if "label" in outputs:
        return int(outputs["label"]["data"][0])
    return int(np.argmax(outputs["probabilities"]["data"]))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    file = Path("digits-models/held_out.npz")
    if "--held-out" in arguments:
        at = arguments.index("--held-out")
        file = Path(arguments[at + 1])
        del arguments[at : at + 2]
    main(arguments or ["digits-plain", "digits-both", "digits-sure"], file)
