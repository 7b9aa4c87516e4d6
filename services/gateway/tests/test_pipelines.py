"""Pipelines on real ONNX models: applied, answered, fused where they can be, kept, followed and removed."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import REGISTRY

from ergonaut.errors import Conflict, NotFound, Refused, Unavailable
from ergonaut.events import PipelineChanged, PipelineRemoved
from ergonaut_gateway.adapters import fusing as fusing_adapter
from ergonaut_gateway.adapters.onnx import OnnxLoader
from ergonaut_gateway.domain.changes import Naming
from ergonaut_gateway.domain.inference import InferenceRequest
from ergonaut_gateway.domain.pipelines.spec import Combine, Condition, Node, Op, Over, Pipeline, Take
from ergonaut_gateway.domain.trust import SignaturePolicy
from ergonaut_gateway.fakes import FakePipelineBook
from ergonaut_gateway.service import Wish

from .conftest import Gateways
from .pipeline_forms import hand_on, node, step, to
from .pipeline_models import House, branching, classifier, house_of, noisy, rows, scaler, scoring


@pytest.fixture
def house(gateways: Gateways) -> House:
    loader = OnnxLoader()
    return house_of(gateways.another(loader, models_max=50), loader, FakePipelineBook())


def again(house: House, gateways: Gateways) -> House:
    """Another gateway on the same records and files."""
    loader = OnnxLoader()
    return house_of(gateways.another(loader, models_max=50), loader, house.book)


def scaled(version: str = "1", name: str = "checked") -> Pipeline:
    steps = (step("scaler", version=version), step("small", version=version))
    return Pipeline(name, (node("sequence", *steps),))


async def both_forms(house: House, nodes: tuple[Node, ...]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a pipeline answers by one model, and the same asked step by step."""
    fused = await house.apply(Pipeline("fused", nodes))
    assert [bool(fusion.model) for fusion in fused.fusions] == [True], fused.fusions
    apart = tuple(
        replace(each, steps=tuple(replace(one, version="latest" if one.model else "") for one in each.steps))
        for each in nodes
    )
    unfused = await house.apply(Pipeline("apart", apart))
    assert not any(fusion.model for fusion in unfused.fusions)
    wanted = {spec.name: rows(5) for spec in fused.signature.inputs}
    assert fused.signature == unfused.signature
    return await house.ask("fused", **wanted), await house.ask("apart", **wanted)


async def deployed(house: House) -> None:
    await house.deploy(scaler=scaler(), small=classifier(1), large=classifier(2))
    for name in ("scaler", "small", "large"):
        await house.gateway.models.alias("default", name, Naming("latest", "1"))


async def test_a_pipeline_answers_by_its_name_and_tells_what_it_takes(house: House) -> None:
    await deployed(house)
    record = await house.apply(scaled())
    given = await house.ask(x=rows())
    apart = await house.ask("small", x=(await house.ask("scaler", x=rows()))["scaled"])
    assert list(given) == ["probabilities", "label"]
    for name, tensor in apart.items():
        np.testing.assert_allclose(given[name], tensor, rtol=1e-6)
    assert [*await house.ask("checked", "label", x=rows())] == ["label"]
    told = house.gateway.predictions.record_of("default", "checked")
    assert (told.name, told.version, told.file, told.signature) == ("checked", 1, "", record.signature)
    answer = await house.gateway.predictions.infer("default", "checked", "1", InferenceRequest("7", {"x": rows()}))
    assert (answer.model, answer.version) == ("checked", 1)
    statistics = house.gateway.predictions.statistics("default", "checked")
    assert (statistics.inferences, statistics.success.count) == (12, 3)
    with pytest.raises(Refused, match=r"inputs.x.shape: is \[4, 3\], the model takes \[-1, 8\]"):
        await house.ask(x=rows()[:, :3].copy())
    with pytest.raises(NotFound):
        await house.gateway.predictions.infer("other", "checked", "", InferenceRequest("7", {"x": rows()}))


async def test_a_sequence_is_made_one_model_that_gives_the_same(house: House) -> None:
    await deployed(house)
    fused, apart = await both_forms(house, scaled().nodes)
    assert fused.keys() == apart.keys()
    for name in fused:
        np.testing.assert_allclose(fused[name], apart[name], rtol=1e-6)
    (fusion,) = (await house.pipelines.get("default", "fused")).fusions
    assert fusion.because == "gives what scaler 1, small 1 give one by one, on 4 generated requests"
    made = (await house.gateway.models.get("default", fusion.model)).named("")
    assert (made.lineage.framework, made.lineage.deployed_by) == ("ergonaut pipelines", "pipelines")
    # Its rows are as independent as those of its stages, so that requests may run together.
    runner = house.gateway.catalogue.find("default", fusion.model).runner
    assert runner.traits.joinable


@pytest.mark.parametrize(
    ("how", "weights"), [(Combine.MEAN, (1, 1)), (Combine.WEIGHTED_MEAN, (1, 3)), (Combine.CONCAT, (1, 1))]
)
async def test_an_ensemble_behind_a_scaler_is_made_one_model(
    house: House, how: Combine, weights: tuple[float, float]
) -> None:
    await deployed(house)
    branches = [
        step(name, version="1", weight=float(weight), outputs={"label": f"{name}-label"})
        for name, weight in zip(("small", "large"), weights, strict=True)
    ]
    nodes = (
        node("sequence", step("scaler", version="1"), to("both")),
        node("ensemble", *branches, name="both", combine=how, outputs=("probabilities",)),
    )
    fused, apart = await both_forms(house, nodes)
    np.testing.assert_allclose(fused["probabilities"], apart["probabilities"], rtol=1e-5)
    assert fused["probabilities"].shape == (5, 6 if how is Combine.CONCAT else 3)


async def test_a_model_may_be_a_stage_twice_and_opsets_may_differ(house: House) -> None:
    await house.deploy(scaler=scaler(opset=15), small=classifier(1, opset=17))
    for name in ("scaler", "small"):
        await house.gateway.models.alias("default", name, Naming("latest", "1"))
    steps = (
        step("scaler", version="1", outputs={"scaled": "once"}),
        step("scaler", version="1", name="again", inputs={"x": "once"}),
        step("small", version="1"),
    )
    fused, apart = await both_forms(house, (node("sequence", *steps),))
    np.testing.assert_allclose(fused["probabilities"], apart["probabilities"], rtol=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "because"),
    [
        (branching(), scoring(3), "version 1 of first has an operator If, which holds a graph of its own"),
        (scoring(3), scoring(1), "version 1 of second uses version 1 of the operators ai.onnx.ml, and others use 3"),
        (noisy(), scoring(3), "one model gives another y than its steps do: "),
    ],
)
async def test_what_cannot_be_one_model_is_asked_step_by_step_and_says_why(
    house: House, first: bytes, second: bytes, because: str
) -> None:
    await house.deploy(first=first, second=second)
    record = await house.apply(
        Pipeline("checked", (node("sequence", step("first", version="1"), step("second", version="1")),))
    )
    (fusion,) = record.fusions
    assert (fusion.model, fusion.because[: len(because)]) == ("", because)
    assert (await house.ask(x=rows()))["y"].shape == (4, 8)


async def test_versions_that_may_change_and_choices_are_not_made_one_model(house: House) -> None:
    await deployed(house)
    record = await house.apply(scaled("latest"))
    assert [each.because for each in record.fusions] == [
        "node main, step 1 (scaler) asks for the alias latest of scaler, and no version by its number"
    ]
    nodes = (
        node("sequence", to("prepared"), to("chosen")),
        node("sequence", step("scaler", version="1"), step("small", version="1"), name="prepared"),
        node(
            "switch",
            hand_on("label", when=Condition(parameter="quick", values=(True,))),
            step("large", version="1"),
            name="chosen",
            outputs=("label",),
        ),
    )
    record = await house.apply(Pipeline("chosen", nodes))
    assert [(each.path, bool(each.model), each.because[:24]) for each in record.fusions] == [
        ("", False, "node chosen is a switch"),
        ("prepared", True, "gives what scaler 1, sma"),
    ]


async def test_without_onnx_or_without_leave_steps_are_asked_one_by_one(
    gateways: Gateways, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(house)
    with monkeypatch.context() as patched:
        patched.setattr(fusing_adapter, "find_spec", lambda _: None)
        record = await house.apply(scaled())
        assert record.fusions[0].because == (
            "onnx is not installed with this gateway; install ergonaut-gateway[fusing]"
        )
    # Models were let in unsigned before; a model that is made here is signed by nobody.
    strict = replace(house.gateway, models=gateways.another(OnnxLoader(), policy=SignaturePolicy.REQUIRE).models)
    strict_house = house_of(strict, OnnxLoader(), house.book)
    record = await strict_house.apply(scaled())
    assert "the file is not signed" in record.fusions[0].because
    assert record.now.revision == 2
    assert (await house.ask(x=rows()))["label"].shape == (4,)


async def test_a_fused_model_that_is_lost_is_made_anew_and_nobody_notices(house: House, gateways: Gateways) -> None:
    await deployed(house)
    (fusion,) = (await house.apply(scaled())).fusions
    expected = await house.ask(x=rows())
    record = (await house.gateway.models.get("default", fusion.model)).named("")
    await house.gateway.files.delete("default", record.file)
    other = again(house, gateways)
    await other.gateway.catalogue.load_all()
    await other.pipelines.load_all()
    plan = other.gateway.predictions.plans["default", "checked"]
    assert not plan.is_ready(fusion.model)  # type: ignore[attr-defined]
    np.testing.assert_allclose((await other.ask(x=rows()))["probabilities"], expected["probabilities"], rtol=1e-6)
    await other.pipelines.finish_all()
    assert plan.is_ready(fusion.model)  # type: ignore[attr-defined]
    np.testing.assert_allclose((await other.ask(x=rows()))["probabilities"], expected["probabilities"], rtol=1e-6)
    third = again(house, gateways)
    await third.gateway.catalogue.load_all()
    assert third.gateway.catalogue.find("default", fusion.model).record.digest == record.digest


async def test_a_fused_model_that_no_pipeline_names_is_removed_after_a_while(house: House) -> None:
    await deployed(house)
    (fusion,) = (await house.apply(scaled())).fusions
    with pytest.raises(Refused, match=f"model {fusion.model} is needed by pipeline checked and cannot be removed"):
        await house.gateway.models.remove("default", fusion.model)
    await house.apply(scaled("latest"))
    await house.pipelines.finish_all()
    assert (await house.gateway.models.get("default", fusion.model)).is_kept
    await house.gateway.clock.advance(3601)
    await house.pipelines.finish_all()
    with pytest.raises(NotFound):
        await house.gateway.models.get("default", fusion.model)
    assert [model.name for model in await house.gateway.models.list("default")] == ["large", "scaler", "small"]


async def test_a_switch_asks_the_large_model_only_where_the_small_one_is_not_sure(house: House) -> None:
    await deployed(house)
    sure = Condition("probabilities", op=Op.GE, values=(0.6,), take=Take.MAX, over=Over.ALL)
    nodes = (
        node("sequence", step("scaler"), step("small"), to("sure-enough")),
        node(
            "switch",
            hand_on("label", when=sure),
            step("large", inputs={"x": "scaled"}),
            name="sure-enough",
            outputs=("label",),
        ),
    )
    await house.apply(Pipeline("checked", nodes))
    for seed in range(20):
        x = rows(1, seed)
        small = await house.ask("small", x=(await house.ask("scaler", x=x))["scaled"])
        is_sure = float(small["probabilities"].max()) >= 0.6
        expected = small if is_sure else await house.ask("large", x=x / np.float32(16))
        assert (await house.ask(x=x))["label"] == expected["label"]


async def test_a_splitter_follows_a_key_and_a_parameter(house: House) -> None:
    await deployed(house)
    branches = (step("small", weight=1.0), step("large", weight=1.0))
    await house.apply(Pipeline("checked", (node("splitter", *branches, key_parameter="user"),)))
    small, large = [(await house.ask(name, x=rows()))["probabilities"] for name in ("small", "large")]
    seen = set()
    for user in range(20):
        told = set()
        for _ in range(2):
            answers: list[object] = []
            wish = Wish("default", "checked", parameters={"user": f"user-{user}"})
            house.gateway.predictions.submit(wish, InferenceRequest("", {"x": rows()}), answers.append)
            while not answers:
                await asyncio.sleep(0)
            got = answers[0].outputs["probabilities"]  # type: ignore[attr-defined]
            told.add("small" if np.allclose(got, small) else "large" if np.allclose(got, large) else "neither")
        assert len(told) == 1
        seen |= told
    assert seen == {"small", "large"}


async def test_versions_that_pipelines_name_are_kept_and_held_ready(house: House) -> None:
    await house.deploy(scaler=scaler(), small=classifier(1))
    await house.apply(scaled())
    for seed in range(2, 8):
        await house.deploy(small=classifier(seed))
    model = await house.gateway.models.get("default", "small")
    assert [(each.version, str(each.state)) for each in model.kept] == [(1, "ready"), (6, "unloaded"), (7, "ready")]
    for change in (house.gateway.models.remove, house.gateway.models.unload):
        with pytest.raises(Refused, match="1 of model small is needed by pipeline checked and cannot be"):
            await change("default", "small", "1")
        with pytest.raises(Refused, match="model small is needed by pipeline checked and cannot be"):
            await change("default", "small", "")
    await house.pipelines.remove("default", "checked")
    await house.gateway.models.remove("default", "small", "1")
    await house.gateway.models.remove("default", "small")


async def test_the_last_version_and_the_alias_that_a_pipeline_asks_for_stay(house: House) -> None:
    await deployed(house)
    await house.apply(scaled("latest"))
    await house.apply(scaled("", name="default-ones"))
    with pytest.raises(Refused, match="latest of model small is needed by pipeline checked; change that first"):
        await house.gateway.models.unalias("default", "small", Naming("latest"))
    await house.pipelines.remove("default", "checked")
    await house.gateway.models.unalias("default", "small", Naming("latest"))
    with pytest.raises(Refused, match="is the last version of model small that is served, and pipeline default-ones"):
        await house.gateway.models.unload("default", "small", "1")
    await house.deploy(small=classifier(9))
    await house.gateway.models.remove("default", "small", "1")


async def test_a_revision_is_replaced_only_by_who_knows_it_and_history_is_kept(house: House) -> None:
    await deployed(house)
    first = await house.apply(scaled(), expected=0)
    with pytest.raises(Conflict, match="pipeline checked has revision 1, and none was expected"):
        await house.apply(scaled("latest"), expected=0)
    assert (await house.apply(scaled())).now == first.now
    second = await house.apply(scaled("latest"), expected=1)
    assert (second.now.revision, second.now.changed_by, second.now.because) == (2, "ann", "a test")
    assert [each.revision for each in second.history] == [1]
    await house.pipelines.remove("default", "checked")
    with pytest.raises(NotFound):
        await house.pipelines.get("default", "checked")
    with pytest.raises(NotFound):
        await house.ask(x=rows())
    third = await house.apply(scaled(), expected=0)
    assert third.now.revision == 3


async def test_changes_are_told_once_also_where_nobody_can_be_told_at_first(house: House) -> None:
    await deployed(house)
    house.gateway.announcer.told.clear()
    await house.apply(scaled("latest"))
    house.gateway.announcer.away = True
    with pytest.raises(Unavailable):
        await house.pipelines.remove("default", "checked")
    house.gateway.announcer.away = False
    await house.pipelines.finish_all()
    await house.pipelines.finish_all()
    changed, removed = house.gateway.announcer.told
    assert isinstance(changed, PipelineChanged)
    assert (changed.pipeline, changed.revision, changed.changed_by) == ("checked", 1, "ann")
    assert changed.models == ("scaler", "small")
    assert isinstance(removed, PipelineRemoved)


async def test_other_gateways_follow(house: House, gateways: Gateways) -> None:
    await deployed(house)
    other = again(house, gateways)
    await other.gateway.catalogue.load_all()
    following = asyncio.create_task(other.pipelines.follow(resync_seconds=60))
    try:
        await house.apply(scaled())
        async with asyncio.timeout(30):
            while ("default", "checked") not in other.gateway.predictions.plans:
                await asyncio.sleep(0)
        assert (await other.ask(x=rows()))["label"].shape == (4,)
        with pytest.raises(Refused, match="needed by pipeline checked"):
            await other.gateway.models.remove("default", "small")
        await house.pipelines.remove("default", "checked")
        async with asyncio.timeout(30):
            while ("default", "checked") in other.gateway.predictions.plans:
                await asyncio.sleep(0)
    finally:
        following.cancel()


async def test_names_are_either_models_or_pipelines(house: House) -> None:
    await deployed(house)
    with pytest.raises(Refused, match="name: a model is called small; a pipeline needs a name of its own"):
        await house.apply(scaled(name="small"))
    await house.apply(scaled())
    with pytest.raises(Refused, match="name: a pipeline is called checked; a model needs another name"):
        await house.deploy(checked=classifier(3))
    await house.gateway.deploy(classifier(3), "checked", tenant="other")


async def test_a_pipeline_of_models_that_are_not_there_is_refused_by_its_step(house: House) -> None:
    await house.deploy(scaler=scaler())
    with pytest.raises(Refused) as refused:
        await house.apply(scaled())
    assert str(refused.value) == "node main, step 2 (small): no model small is served"
    await house.deploy(small=classifier(1))
    with pytest.raises(Refused) as refused:
        await house.apply(scaled("2"))
    assert str(refused.value).startswith(
        "node main, step 1 (scaler): version 2 of model scaler is not served, version 1 is"
    )
    signature, fusions = await house.pipelines.check("default", scaled())
    assert [spec.name for spec in signature.outputs] == ["probabilities", "label"]
    assert [each.because for each in fusions] == [""]
    assert await house.pipelines.list("default") == []


async def test_a_model_that_changed_its_form_is_named(house: House) -> None:
    await deployed(house)
    await house.apply(scaled("latest"))
    await house.deploy(small=classifier(1, width=5))
    await house.gateway.models.alias("default", "small", Naming("latest", "2"))
    with pytest.raises(Unavailable) as changed:
        await house.ask(x=rows())
    assert str(changed.value) == (
        "node main, step 2 (small): model small takes or gives something else than when the pipeline was applied; "
        "apply the pipeline anew"
    )


async def test_prometheus_is_told_what_each_step_did(house: House) -> None:
    await deployed(house)
    nodes = (node("sequence", step("scaler"), step("small", outputs={"label": "label"})),)
    await house.apply(Pipeline("counted", nodes))
    for _ in range(3):
        await house.ask("counted", x=rows())

    def told(name: str, step: str) -> float | None:
        labels = {"tenant": "default", "pipeline": "counted", "node": "main", "step": step}
        return REGISTRY.get_sample_value(f"ergonaut_pipeline_step_{name}_total", labels)

    assert [(told("requests", each), told("failures", each)) for each in ("scaler", "small")] == [(3, 0), (3, 0)]
    await house.apply(Pipeline("counted", (node("sequence", *nodes[0].steps, outputs=("label",)),)))
    await house.ask("counted", x=rows())
    assert told("requests", "small") == 4
    assert told("seconds", "small") is not None
    await house.apply(Pipeline("counted", (node("sequence", step("scaler")),)))
    assert told("requests", "small") is None
    assert told("requests", "scaler") == 4
    await house.pipelines.remove("default", "counted")
    assert told("requests", "scaler") is None
