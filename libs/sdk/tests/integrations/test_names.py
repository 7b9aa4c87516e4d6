"""Metrics that a tool would refuse by their names get names that it takes, and no two get the same."""

import posixpath

from hypothesis import given
from hypothesis import strategies as st

from ergonaut.integrations.names import Names

MLFLOW = r"[^/\w.\- :]"


def test_a_name_that_the_tool_takes_stays_as_it_is() -> None:
    assert Names(MLFLOW).of({"train/loss": 1, "top 5: a-b_c.d": 2}) == {"train/loss": 1, "top 5: a-b_c.d": 2}


def test_what_the_tool_does_not_take_is_replaced_and_names_stay_distinct() -> None:
    figures = {"top@5": 1, "top%5": 2, "top_5": 3, "map[0.5]": 4}
    assert Names(MLFLOW).of(figures) == {"top_5_2": 1, "top_5_3": 2, "top_5": 3, "map_0.5_": 4}


def test_a_name_once_given_is_kept_when_more_figures_come() -> None:
    names = Names(MLFLOW)
    assert names.of({"top@5": 1}) == {"top_5": 1}
    assert names.of({"top@5": 2, "top_5": 3}) == {"top_5": 2, "top_5_2": 3}


def test_no_figure_is_the_folder_of_another() -> None:
    names = Names()
    assert names.of({"a": 1, "a/b/c": 2, "x/y": 3, "x": 4}) == {"a": 1, "a_b_c": 2, "x/y": 3, "x_2": 4}


@given(st.lists(st.text("ab@/._2", min_size=1, max_size=8), unique=True, max_size=12))
def test_whatever_the_names_are_the_tool_takes_them_and_they_are_distinct(told: list[str]) -> None:
    given_names = list(Names(MLFLOW, length_max=8).of({f"e/{name}": 0 for name in told}))
    assert len(given_names) == len(told)
    for name in given_names:
        assert len(name) <= 8
        assert "@" not in name
        assert name == posixpath.normpath(name)
        assert not any(other.startswith(f"{name}/") for other in given_names)
