"""Put the network's activations of the training images into a collection, and search it with the held-out ones.

python neighbours.py activations.npz
"""

import argparse
import sys
from collections import Counter

import numpy as np

from ergonaut.client import Client

NEIGHBOURS = 10
RECALL_MIN = 0.95
ACCURACY_MIN = 0.95


def main() -> None:
    """Print the accuracy of a vote among the ten nearest, and how many of the exact nearest HNSW found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("activations", help="activations.npz, as train.py wrote it")
    given = np.load(parser.parse_args().activations)
    labels = {f"train-{place}": str(label) for place, label in enumerate(given["train_labels"])}
    with Client() as client:
        client.vectors.create("digits", given["train"].shape[1])
        client.vectors.upsert(
            "digits",
            dict(zip(labels, given["train"].tolist(), strict=True)),
            {point: {"label": label} for point, label in labels.items()},
        )
        queries = given["held_out"].tolist()
        found = client.vectors.search("digits", queries, NEIGHBOURS)
        exact = client.vectors.search("digits", queries, NEIGHBOURS, exact=True)
    votes = [Counter(near.attributes["label"] for near in nearest).most_common(1)[0][0] for nearest in found]
    accuracy = float(np.mean([vote == str(label) for vote, label in zip(votes, given["held_out_labels"], strict=True)]))
    shared = [
        len({near.id for near in nearest} & {near.id for near in truth})
        for nearest, truth in zip(found, exact, strict=True)
    ]
    recall = sum(shared) / (NEIGHBOURS * len(shared))
    print(f"k-NN accuracy: {accuracy:.4f} on {len(votes)} held-out images, {len(labels)} vectors searched by HNSW")
    print(f"recall@{NEIGHBOURS} against exact search: {recall:.4f}")
    if recall < RECALL_MIN or accuracy < ACCURACY_MIN:
        sys.exit(f"below what is promised: recall {RECALL_MIN}, accuracy {ACCURACY_MIN}")


if __name__ == "__main__":
    main()
