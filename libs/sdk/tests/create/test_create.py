"""`ergonaut create` as people and scripts meet it: each step told, each refusal one sentence, nothing asked of a script."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sklearn.linear_model import LogisticRegression
from skops import io as skops_io

from ergonaut.create.flow import Telling, create
from ergonaut.create.options import CreateOptions, options_from
from ergonaut.errors import NotFound, Refused
from ergonaut.openapi import CLASSES, FEATURES
from ergonaut.signing import read_keys, verify
from ergonaut_common.testing import ServiceProcess, free_port, key_ring_file, nats_server

from .made_models import (
    blind_to_one_feature,
    classified_rows,
    endless,
    ergonaut,
    fixed_by_reshape,
    giving_maps,
    linear,
    root,
    told,
    written,
)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    return written(tmp_path / "digits.onnx", linear())


def refusal(*arguments: object, home: Path) -> str:
    code, out, err = ergonaut("create", *arguments, home=home)
    assert code in (65, 66), (out, err)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_the_command_loads_nothing_heavy_before_it_is_called() -> None:
    heavy = ("numpy", "onnx", "onnxruntime", "jinja2", "sklearn")
    program = (
        f"import sys, ergonaut.cli.create, ergonaut.create; print([name for name in {heavy} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"


def test_each_step_is_told_and_the_file_is_written(onnx_file: Path, tmp_path: Path) -> None:
    found = told(onnx_file, "--output", tmp_path / "out.onnx", home=tmp_path)
    assert found["name"] == "digits"
    assert [*found["steps"]] == ["recognise", "validate", "try", "optimise", "write"]
    assert found["steps"]["validate"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert found["steps"]["try"]["deterministic"] is True
    assert (tmp_path / "out.onnx").stat().st_size > 0


def test_where_nothing_runs_the_command_that_starts_it_is_told_before_any_work(onnx_file: Path, tmp_path: Path) -> None:
    said = refusal(onnx_file, home=tmp_path / "none")
    assert "nothing runs here that could serve the model; start it with `ergonaut up`, or give --no-serve" in said


def test_a_fixed_batch_is_freed_where_that_is_accepted_and_proven(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", linear(batch=1))
    left = create(CreateOptions(model=str(path), serve=False, optimise="off"), Telling()).steps[-1]
    assert (left.name, left.state) == ("free batch", "skipped")
    assert "--free-batch would let callers send many" in left.words
    freed = create(CreateOptions(model=str(path), serve=False, optimise="off"), Telling(answer=True)).steps[-1]
    assert (freed.state, freed.figures) == ("done", {"freed": True})
    path = written(tmp_path / "m.onnx", fixed_by_reshape())
    kept = create(CreateOptions(model=str(path), serve=False, optimise="off", free_batch=True), Telling()).steps[-1]
    assert "the graph itself is fixed to it" in kept.words


def test_maps_are_dropped_where_that_is_wished(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", giving_maps())
    assert "zipmap=False, or give --drop-maps" in refusal(path, "--no-serve", home=tmp_path)
    step = told(path, "--drop-maps", home=tmp_path)["steps"]["validate"]
    assert step["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]


def test_nan_on_drawn_inputs_is_a_warning_and_on_given_ones_a_refusal(tmp_path: Path) -> None:
    options = CreateOptions(model=str(written(tmp_path / "m.onnx", root())), serve=False, optimise="off")
    step = create(options, Telling()).steps[-1]
    assert step.state == "warned"
    assert "NaN or infinite: " in step.words
    (tmp_path / "e.json").write_text("[[1, 2, 3, -1]]")
    with pytest.raises(Refused, match="gives NaN or infinity on your inputs: 1 of 4 of y"):
        create(options.model_copy(update={"example": tmp_path / "e.json"}), Telling())


def test_a_hostile_model_ends_its_own_process_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", endless())
    assert "took longer than 3 s" in refusal(path, "--no-serve", "--timeout", 3, home=tmp_path)


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_int8_that_keeps_its_answers_is_taken_and_one_that_does_not_is_refused(kind: str, tmp_path: Path) -> None:
    rows, labels = classified_rows()
    np.savez(tmp_path / "rows.npz", x=rows)
    np.savez(tmp_path / "labels.npz", y=labels)
    good = written(tmp_path / "good.onnx", linear(blind_to_one_feature(1.0)))
    bad = written(tmp_path / "bad.onnx", linear(blind_to_one_feature(1000.0)))
    wish = {"example": tmp_path / "rows.npz", "labels": tmp_path / "labels.npz", "quantise": kind, "serve": False}
    options = CreateOptions.model_validate({"model": str(good), "accuracy_drop_max": 0.03, "optimise": "off"} | wish)
    figures = create(options, Telling()).steps[-1].figures
    assert figures["accuracy_before"] == 1.0
    assert figures["accuracy_after"] >= 0.97
    with pytest.raises(Refused, match=r"int8 changes too much: accuracy falls from 1\.0000 to 0\.\d+ over 200 rows"):
        create(options.model_copy(update={"model": str(bad)}), Telling())


def test_a_signed_model_is_written_with_a_signature_that_fits(onnx_file: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "key.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    out, public = tmp_path / "out.onnx", read_keys([tmp_path / "key.pub"])
    create(CreateOptions(model=str(onnx_file), serve=False, sign_key=tmp_path / "key.pem", output=out), Telling())
    bundle = (tmp_path / "out.onnx.sig").read_text()
    assert verify(out, bundle, public) == public[0]
    out.write_bytes(out.read_bytes() + b" ")
    with pytest.raises(Refused, match="does not fit"):
        verify(out, bundle, public)


def test_int8_needs_a_persons_data(onnx_file: Path, tmp_path: Path) -> None:
    assert "--example: int8 is judged on your data" in refusal(
        onnx_file, "--no-serve", "--quantise", "dynamic", home=tmp_path
    )


def test_a_scikit_learn_model_is_converted_and_compared(tmp_path: Path) -> None:
    rows, labels = classified_rows()
    skops_io.dump(LogisticRegression().fit(rows, labels), tmp_path / "m.skops")
    compared = told(tmp_path / "m.skops", "--optimise", "off", home=tmp_path)["steps"]["compare"]
    assert compared["differences"]
    assert all(each["unlike"] == 0 for each in compared["differences"])


def test_the_names_of_classes_and_columns_stay_with_the_file_whatever_is_done_to_it(tmp_path: Path) -> None:
    rows, labels = classified_rows()
    estimator = LogisticRegression().fit(rows, labels)
    columns = [f"column {at}" for at in range(rows.shape[1])]
    estimator.feature_names_in_ = np.array(columns, dtype=object)
    skops_io.dump(estimator, tmp_path / "m.skops")
    told(tmp_path / "m.skops", "--optimise", "extended", "--output", tmp_path / "m.onnx", home=tmp_path)
    kept = {entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert kept == {FEATURES: columns, CLASSES: [str(each) for each in estimator.classes_]}


def test_a_model_of_ones_own_code_is_imported_from_here(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import numpy as np\nfrom sklearn.linear_model import LinearRegression\n"
        "ranker = LinearRegression().fit(np.eye(3), np.arange(3))\n"
    )
    found = told("shop:ranker", "--optimise", "off", home=tmp_path, cwd=tmp_path)
    assert found["name"] == "ranker"
    assert "compare" in found["steps"]


class Trap:
    """What a pickle may hold: code that runs as soon as it is opened."""

    def __reduce__(self):
        return (Path.touch, (Path("trapped"),))


def test_a_pickle_is_opened_only_where_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Trap()))
    said = refusal(tmp_path / "m.pkl", "--no-serve", home=tmp_path)
    assert (
        "runs code of its maker when it is opened; save it by skops.io.dump as .skops, or give --trust-pickle" in said
    )
    assert not (tmp_path / "trapped").exists()
    rows, labels = classified_rows()
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(LogisticRegression().fit(rows, labels)))
    assert told(tmp_path / "m.pkl", "--trust-pickle", "--optimise", "off", home=tmp_path)["steps"]["compare"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("none.onnx", "there is no file none.onnx"),
        ("notes.txt", "there is no file notes.txt"),
        ("w.pt", "torch.export.save as .pt2"),
        ("w.safetensors", "holds weights and no graph; put its config.json beside it"),
        ("w.bin2", "is no model that is known"),
        ("", "MODEL: give a model"),
    ],
)
def test_what_is_no_model_is_told_with_what_to_do(
    model: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("w.pt", "w.safetensors", "w.bin2"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises((Refused, NotFound), match=said):
        create(options_from(None, {"model": model, "name": "m", "serve": False}), Telling())


@pytest.mark.parametrize("model", ["hf:org/tiny", "m.pt2"])
def test_what_is_not_installed_is_named_with_its_command(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.pt2").write_bytes(b"x")
    with pytest.raises(Refused, match="this needs torch, which is not installed; pip install torch onnxscript"):
        create(CreateOptions(model=model, serve=False), Telling())


def test_a_configuration_stands_where_the_command_says_nothing(onnx_file: Path, tmp_path: Path) -> None:
    config = tmp_path / "create.yaml"
    config.write_text("model: digits.onnx\nname: from-file\nserve: false\noptimise: 'off'\n")
    assert options_from(config, {}).model == str(onnx_file)
    assert options_from(config, {}).name == "from-file"
    assert options_from(config, {"name": "given"}).name == "given"
    code, out, err = ergonaut("create", "--config", config, "--json", home=tmp_path)
    assert code == 0, err
    assert json.loads(out)["name"] == "from-file"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nam: x", "nam: is no field; did you mean name"),
        ("quantise: int4", "quantise: .*'dynamic'"),
        ("timeout_seconds: -1", "timeout_seconds: .*greater than 0"),
        ("a: [", r"create\.yaml, line 2 is neither YAML nor JSON"),
        ("- 1", "holds no fields"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_field(text: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "create.yaml"
    config.write_text(f"{text}\n")
    with pytest.raises(Refused, match=said):
        options_from(config, {"model": "m.onnx"})


def test_a_name_that_cannot_name_a_model_is_refused(onnx_file: Path) -> None:
    with pytest.raises(Refused, match="--name: 'Not A Name' cannot name a model"):
        create(CreateOptions(model=str(onnx_file), name="Not A Name", serve=False), Telling())


@pytest.mark.integration
def test_a_file_becomes_a_service_that_answers_as_the_file_does(onnx_file: Path, tmp_path: Path, monkeypatch) -> None:
    key_ring = key_ring_file(tmp_path)
    http = f"127.0.0.1:{free_port()}"
    with nats_server(tmp_path / "nats") as nats:
        settings = {"ERGONAUT_NATS_URL": nats, "ERGONAUT_GATEWAY_HTTP_ADDRESS": http}
        gateway = ServiceProcess("gateway", tmp_path / "gateway", settings, key_ring=key_ring)
        monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path / "none"))
        monkeypatch.setenv("ERGONAUT_GATEWAY_ADDRESS", gateway.address)
        monkeypatch.setenv("ERGONAUT_GATEWAY_HTTP_ADDRESS", http)
        monkeypatch.setenv("ERGONAUT_API_KEY", key_ring[1]["default"])
        (tmp_path / "e.json").write_text("[[1, 2, 3, 4]]")
        options = CreateOptions(model=str(onnx_file), name="made", example=tmp_path / "e.json")
        with gateway.running():
            wait_for_door(gateway)
            outcome = create(options, Telling())
    assert outcome.version == 1
    assert outcome.url == f"http://{http}/v2/models/made/infer"
    [answer] = outcome.steps[-1].figures["outputs"]
    weights = np.arange(12).reshape(4, 3) / 12
    np.testing.assert_allclose(answer["data"], (np.array([1, 2, 3, 4]) @ weights).ravel(), rtol=1e-5)


def wait_for_door(gateway: ServiceProcess) -> None:
    import asyncio

    asyncio.run(gateway.wait_healthy())
