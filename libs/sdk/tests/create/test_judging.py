"""What decides over a change: differences, int8's gate, examples that fit."""

from pathlib import Path

import numpy as np
import pytest

from ergonaut.create.comparing import Tolerance, agree, compared
from ergonaut.create.feeds import read_example, read_feed, read_labels, write_feed
from ergonaut.create.optimising import judged
from ergonaut.create.quantising import Gate, weighed
from ergonaut.create.tensors import Spec
from ergonaut.errors import Refused

X = Spec("x", "FP32", ("n", 2))
GATE = Gate(accuracy_drop_max=0.01, agreement_min=0.99)
SCORES = np.eye(3)[[0, 1, 2, 0]]


@pytest.mark.parametrize(
    ("ours", "theirs", "unlike"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0),
        ([1.0, 2.0], [1.0, 2.1], 1),
        ([np.nan, 1.0], [np.nan, 1.0], 0),
        ([np.nan, 1.0], [0.0, 1.0], 1),
        ([np.inf, 1.0], [np.inf, 1.0], 0),
        ([np.inf, 1.0], [-np.inf, 1.0], 1),
        ([1e9, 0.0], [1e9 + 1, 0.0], 0),
    ],
)
def test_values_are_near_or_not(ours: list[float], theirs: list[float], unlike: int) -> None:
    [found] = compared({"y": np.array(ours)}, {"y": np.array(theirs)}, Tolerance())
    assert found.unlike == unlike
    assert agree((found,)) == (unlike == 0)


def test_texts_differ_or_not() -> None:
    [found] = compared({"y": np.array(["a", "b"], object)}, {"y": np.array(["a", "c"], object)}, Tolerance())
    assert found.unlike == 1


def test_outputs_of_other_names_or_shapes_are_refused() -> None:
    with pytest.raises(Refused, match="one model gives y, the other z"):
        compared({"y": np.ones(1)}, {"z": np.ones(1)}, Tolerance())
    with pytest.raises(Refused, match="the output y has the shape"):
        compared({"y": np.ones(1)}, {"y": np.ones(2)}, Tolerance())


def test_a_slower_model_is_not_kept() -> None:
    assert judged(1e-3, 1.04e-3).kept
    assert "it is slower, 1100 us a run where it was 1000" in judged(1e-3, 1.1e-3).why


def test_int8_that_keeps_its_answers_passes() -> None:
    result = weighed({"y": SCORES}, {"y": SCORES * 0.9}, None, 100, 30)
    assert result.refusal(GATE) == ""
    assert result.in_words() == "100.00% of 4 answers stay the same, 100 -> 30 bytes"


def test_int8_that_changes_answers_is_refused_in_figures() -> None:
    assert "75.00% of 4 answers stay the same" in weighed(
        {"y": SCORES}, {"y": SCORES[[0, 1, 2, 2]]}, None, 1, 1
    ).refusal(GATE)


def test_labels_tell_accuracy_and_decide() -> None:
    labels = np.array([0, 1, 2, 0])
    worse = weighed({"y": SCORES}, {"y": SCORES[[0, 1, 2, 2]]}, labels, 1, 1)
    assert "accuracy falls from 1.0000 to 0.7500 over 4 rows" in worse.refusal(GATE)
    better = weighed({"y": SCORES[[0, 1, 2, 2]]}, {"y": SCORES}, labels, 1, 1)
    assert better.refusal(GATE) == ""


def test_figures_of_a_regression_may_move_a_little() -> None:
    before = np.linspace(0, 10, 100)[:, np.newaxis]
    assert weighed({"y": before}, {"y": before + 0.3}, None, 1, 1).agreement == 1.0
    assert weighed({"y": before}, {"y": before + 0.7}, None, 1, 1).agreement == 0.0
    with pytest.raises(Refused, match="gives a figure and no class"):
        weighed({"y": before}, {"y": before}, np.zeros(100), 1, 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.csv", "a,b\n1,2\n3,4.5\n"),
        ("e.json", '{"x": [[1, 2], [3, 4.5]]}'),
        ("e.json", "[[1, 2], [3, 4.5]]"),
        ("e.json", '[{"a": 1, "b": 2}, {"a": 3, "b": 4.5}]'),
        ("e.json", '{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4.5]}]}'),
    ],
)
def test_examples_are_read_as_people_write_them(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    value = read_example(tmp_path / name, [X])["x"]
    assert value.dtype == np.float32
    assert value.tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("e.csv", "a,b\n1\n", "row 2 has 1 fields, the first line 2"),
        ("e.csv", "a,b\n1,word\n", "holds what is no FP32"),
        ("e.csv", "a,b,c\n1,2,3\n", r"has the shape \[1, 3\], but the model takes x FP32 \[n, 2\]"),
        ("e.csv", "", "cannot be read as .csv"),
        ("e.json", "{", "cannot be read as .json"),
        ("e.json", "{}", "holds no values"),
        ("e.txt", "1", "must end in .json, .npz, .npy, .csv"),
    ],
)
def test_an_example_that_does_not_fit_is_refused_with_where(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Refused, match=said):
        read_example(tmp_path / name, [X])


def test_an_example_runs_no_pickle(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", x=np.array([{}], dtype=object))
    with pytest.raises(Refused, match=r"cannot be read as \.npz"):
        read_example(tmp_path / "e.npz", [X])


def test_labels_must_be_as_many_as_rows(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("label\n1\n0\n")
    assert read_labels(tmp_path / "l.csv", 2).tolist() == [1, 0]
    with pytest.raises(Refused, match="holds 2 labels for 3 examples"):
        read_labels(tmp_path / "l.csv", 3)


def test_feeds_travel_whole_whatever_their_names(tmp_path: Path) -> None:
    feed = {"../x": np.ones((1, 2), np.float16), "file": np.array([["a"], ["b"]], object), "z": np.array(True)}  # noqa: FBT003
    write_feed(tmp_path / "f.npz", feed)
    back = read_feed(tmp_path / "f.npz")
    assert [*back] == [*feed]
    assert all(back[name].dtype == feed[name].dtype and np.array_equal(back[name], feed[name]) for name in feed)
