"""A recipe's file is read as its writer meant it, or refused with the field that is wrong; nothing is lost on its way by gRPC."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergonaut.errors import NotFound, Refused
from ergonaut.orchestration_proto import recipe_message, recipe_of, rollout_input_of, start_request_of
from ergonaut.recipefile import load_recipe
from ergonaut.retraining import Recipe
from ergonaut.rollouts import RolloutInput

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits" / "retrain.yaml"
JOB = "{name: digits, command: [python, train.py], duration_seconds_expected: 5}"


def written(folder: Path, text: str) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return file


def test_the_example_is_read_and_its_files_are_those_beside_it() -> None:
    read = load_recipe(EXAMPLE)
    assert (read.model, read.folder, read.recipe.job.name) == ("digits", EXAMPLE.parent, "digits-again")
    assert read.recipe.rollout is not None
    assert (read.recipe.rollout.endpoint, read.recipe.rollout.steps) == ("digits", (0.1, 0.5))


def test_a_job_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "job.yaml").write_text(JOB)
    read = load_recipe(written(tmp_path, "model: digits\njob: jobs/job.yaml\n"))
    assert (read.folder, read.recipe.job.command) == (tmp_path / "jobs", ("python", "train.py"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"job: {JOB}", "model: '' must be"),
        ("model: digits", "job: is missing"),
        (f"model: digits\njob: {JOB}\nwhen: {{on_drfit: true}}", "when.on_drfit: is no field; did you mean on_drift"),
        (f"model: digits\njob: {JOB}\nwhen: {{schedule: '@daily'}}", "when.schedule: must have five"),
        (f"model: digits\njob: {JOB}\nwhen: {{schedule: 0 3 * *}}", "when.schedule: must have five fields"),
        (f"model: digits\njob: {JOB}\nrollout: {{steps: [0.5]}}", "rollout.endpoint: is missing"),
        (f"model: digits\njob: {JOB}\njudging: {{metric: auc}}", "judging.metric"),
        ("model: digits\njob: nowhere.yaml", "there is no job file"),
        ("- a\n- b", "a recipe has fields"),
        ("model: [", "is no YAML"),
    ],
)
def test_a_recipe_that_is_wrong_is_refused_naming_the_field(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises((Refused, NotFound), match=words):
        load_recipe(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no recipe file"):
        load_recipe(tmp_path / "none.yaml")


MARGINS = st.none() | st.floats(0.001, 1)
RECIPES = st.builds(
    lambda **given: Recipe.model_validate(
        {"job": {"name": "a", "command": ["b"], "duration_seconds_expected": 1}} | given
    ),
    within_seconds=st.floats(1, 1e6),
    when=st.fixed_dictionaries(
        {
            "on_drift": st.booleans(),
            "every_seconds": st.none() | st.floats(60, 1e6),
            "schedule": st.sampled_from([None, "0 3 * * 1"]),
            "time_zone": st.sampled_from(["UTC", "Europe/Berlin"]),
        }
    ),
    judging=st.fixed_dictionaries(
        {"metric": st.sampled_from(["accuracy", "rmse", "log_loss"]), "margin": st.floats(0, 9)}
    ),
    rollout=st.none()
    | st.fixed_dictionaries(
        {
            "endpoint": st.just("digits"),
            "guards": st.fixed_dictionaries({"slow": MARGINS, "wrong": MARGINS}),
            "alias": st.sampled_from(["", "champion", "best"]),
        }
    ),
)


@given(RECIPES)
def test_recipes_and_rollouts_come_out_of_grpc_as_they_went_in(recipe: Recipe) -> None:
    assert recipe_of(recipe_message(recipe)) == recipe
    if recipe.rollout is not None:
        wish = RolloutInput(model="digits", version=2, because="why", **dict(recipe.rollout))
        assert rollout_input_of(start_request_of(wish), "default") == wish
