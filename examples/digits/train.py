"""Train a multi-layer perceptron on the UCI digits that scikit-learn carries, and keep it as ONNX.

Runs anywhere: `python train.py` alone measures its own energy; under `ergonaut submit` the host's agent does.
Data: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, CC BY 4.0.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import ergonaut

HELD_OUT = 360
HIDDEN_LAYERS = (256, 64)
SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))

Floats = NDArray[np.float32]


def shifted(images: Floats) -> Floats:
    """Each image five times: as it is, and moved by one pixel in each direction."""
    squares = images.reshape(-1, 8, 8)
    moved = [np.roll(squares, shift, axis=(1, 2)) for shift in SHIFTS]
    return np.concatenate(moved).reshape(-1, 64)


def hidden_activations(network: MLPClassifier, images: Floats) -> Floats:
    """What the last hidden layer says of each image: (images, 64)."""
    values = images
    for weights, biases in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
        values = np.maximum(values @ weights + biases, 0)
    return values.astype(np.float32)


def train(run: ergonaut.Run, images: Floats, labels: NDArray[np.int64], seconds: float) -> MLPClassifier:
    """Train epoch by epoch until the time is up."""
    network = MLPClassifier(HIDDEN_LAYERS, batch_size=64, learning_rate_init=5e-4, alpha=1e-3, random_state=0)
    many, their_labels = shifted(images), np.tile(labels, len(SHIFTS))
    shuffled = np.random.default_rng(0)
    stop_at = time.monotonic() + seconds
    epoch = 0
    while epoch == 0 or time.monotonic() < stop_at:
        epoch += 1
        with run.phase("epoch", epoch):
            order = shuffled.permutation(len(many))
            network.partial_fit(many[order], their_labels[order], classes=np.arange(10))
        run.metric("loss", float(network.loss_))
    run.metric("epochs", epoch)
    return network


def split_labelled(path: Path) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
    """What came since, three quarters of it to learn from and a quarter to be judged by."""
    with np.load(path) as given:
        images, labels = given["images"].astype(np.float32), given["labels"].astype(np.int64)
    parts: tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]] = tuple(
        train_test_split(images, labels, test_size=0.25, random_state=0)
    )
    return parts


def joined(older: NDArray[Any], newer: NDArray[Any]) -> NDArray[Any]:
    """Both, the older first."""
    return np.concatenate([older, newer])


def main() -> None:
    """Train, judge, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=22, help="how long to train")
    parser.add_argument("--labelled", type=Path, help="images and labels that came since, as numpy.savez writes them")
    options = parser.parse_args()
    with ergonaut.track(name="digits") as run:
        with run.phase("load"):
            digits = load_digits()
            images = (digits.data / 16).astype(np.float32)
            split = train_test_split(images, digits.target, test_size=HELD_OUT, stratify=digits.target, random_state=0)
            train_images, held_images, train_labels, held_labels = split
            if options.labelled:
                newer = split_labelled(options.labelled)
                # As many as of the older ones, however few they are: the world is as they are now.
                times = max(len(train_images) // max(len(newer[0]), 1), 1)
                train_images = joined(train_images, np.repeat(newer[0], times, axis=0))
                train_labels = joined(train_labels, np.repeat(newer[2], times))
                held_images, held_labels = joined(held_images, newer[1]), joined(held_labels, newer[3])
                run.metric("labelled", len(newer[0]) + len(newer[1]))
        network = train(run, train_images, train_labels, options.seconds)
        with run.phase("evaluate"):
            run.metric("accuracy", float(network.score(held_images, held_labels)))
        with run.phase("export"):
            onnx = to_onnx(network, held_images[:1], options={"zipmap": False})
            Path("model.onnx").write_bytes(onnx.SerializeToString())
            np.savez("held_out.npz", images=held_images, labels=held_labels)
            np.savez("validation.npz", x=held_images, y=held_labels)
            np.savez(
                "activations.npz",
                train=hidden_activations(network, train_images),
                train_labels=train_labels,
                held_out=hidden_activations(network, held_images),
                held_out_labels=held_labels,
            )


if __name__ == "__main__":
    main()
