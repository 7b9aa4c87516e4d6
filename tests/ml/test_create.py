"""`ergonaut create` from PyTorch and Hugging Face, compared with what the source itself gives; nothing is downloaded."""

from pathlib import Path

import numpy as np
import pytest

from ergonaut.create import CreateOptions, Outcome, Telling, create
from ergonaut.errors import Refused

torch = pytest.importorskip("torch", reason="run by make test-ml, which installs torch")
transformers = pytest.importorskip("transformers", reason="run by make test-ml, which installs transformers")
pytest.importorskip("onnxscript", reason="run by make test-ml, which installs onnxscript")

pytestmark = pytest.mark.filterwarnings("default")

SHOP = """
import torch

torch.manual_seed(0)
ranker = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
"""


def made(model: str, **more: object) -> Outcome:
    return create(CreateOptions.model_validate({"model": model, "serve": False, "name": "made"} | more), Telling())


def assert_same_as_source(outcome: Outcome) -> None:
    [compared] = [step for step in outcome.steps if step.name == "compare"]
    assert compared.figures["differences"]
    assert all(each["unlike"] == 0 for each in compared.figures["differences"])


def batch_axis_of(outcome: Outcome) -> int:
    [validated] = [step for step in outcome.steps if step.name == "validate"]
    return int(validated.figures["inputs"][0]["shape"][0])


def test_an_exported_program(home: Path) -> None:
    program = torch.export.export(torch.nn.Linear(4, 2), (torch.randn(1, 4),))
    torch.export.save(program, home / "m.pt2")
    assert_same_as_source(made(str(home / "m.pt2")))


def test_a_module_of_ones_own_code_with_a_batch_that_callers_choose(home: Path) -> None:
    (home / "shop.py").write_text(SHOP)
    np.savez(home / "rows.npz", input=np.random.default_rng(0).standard_normal((5, 4)))
    outcome = made("shop:ranker", example=home / "rows.npz")
    assert_same_as_source(outcome)
    assert batch_axis_of(outcome) == -1


def test_a_module_without_inputs_is_refused_with_what_to_give(home: Path) -> None:
    (home / "shop.py").write_text(SHOP)
    with pytest.raises(Refused, match="--example: a PyTorch module does not tell its inputs"):
        made("shop:ranker")


def test_safetensors_beside_their_configuration(home: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=3
    )
    transformers.BertForSequenceClassification(config).save_pretrained(home / "tiny")
    outcome = made(str(home / "tiny" / "model.safetensors"))
    assert_same_as_source(outcome)
    assert batch_axis_of(outcome) == -1
