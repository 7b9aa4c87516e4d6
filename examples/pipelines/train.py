"""Makes the models of which the pipelines here are made, from the UCI digits: a scaler, a small classifier, a large one.

    python examples/pipelines/train.py digits-models
    for name in scaler small large; do ergonaut deploy digits-models/$name.onnx --name digits-$name; done
    ergonaut pipelines apply examples/pipelines/plain.yaml
    ergonaut pipelines show digits-plain
    python examples/pipelines/predict.py digits-plain digits-both digits-sure

Takes some seconds and needs scikit-learn and skl2onnx.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

PIXELS = 64


def made(folder: Path) -> None:
    """Write the three models."""
    images, labels = load_digits(return_X_y=True)
    train_images, held_out, train_labels, truth = train_test_split(images, labels, test_size=0.25, random_state=0)
    scaler = StandardScaler().fit(train_images)
    train_scaled, held_out_scaled = scaler.transform(train_images), scaler.transform(held_out)
    small = LogisticRegression(C=0.001, max_iter=200).fit(train_scaled, train_labels)
    large = MLPClassifier((64, 64), tol=1e-3, random_state=0).fit(train_scaled, train_labels)
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in (("scaler", scaler), ("small", small), ("large", large)):
        (folder / f"{name}.onnx").write_bytes(converted(model))
    np.savez(folder / "held_out.npz", images=held_out.astype("<f4"), labels=truth)
    for name, model in (("small", small), ("large", large)):
        print(f"{name}: {model.score(held_out_scaled, truth):.1%} of the held-out images right")


def converted(model: Any) -> bytes:
    """A model as ONNX, with tensors for inputs and outputs."""
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    sample = np.zeros((1, PIXELS), "<f4")
    content: bytes = to_onnx(model, sample, options=options, target_opset=17).SerializeToString()
    return content


if __name__ == "__main__":
    made(Path(sys.argv[1] if len(sys.argv) > 1 else "digits-models"))
