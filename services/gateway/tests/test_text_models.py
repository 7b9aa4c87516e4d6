"""The adapters of text models, by small real ones, and by what their fakes promise as well."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ergonaut.errors import Refused, Unavailable
from ergonaut_gateway.adapters.text.models import FolderModel
from ergonaut_gateway.adapters.text.templates import ChatTemplate
from ergonaut_gateway.adapters.text.tokens import FileTokenizer
from ergonaut_gateway.fakes import FakeDecoder, FakeLanguageModel
from ergonaut_gateway.ports import LanguageModel

from .text_models import DecoderModel, decoder_folder, decoder_tokenizer, encoder_files

TEXT = "Every joule counts: 7 µJ, 3 €, \U0001f331."
Make = Callable[[Path], LanguageModel]


def fake(_folder: Path) -> LanguageModel:
    return FakeLanguageModel(FakeDecoder("grams"))


def plain(folder: Path) -> LanguageModel:
    return FolderModel(decoder_folder(folder), threads=1)


def of_genai(folder: Path) -> LanguageModel:
    return FolderModel(decoder_folder(folder, genai=True), threads=1)


def of_genai_shared(folder: Path) -> LanguageModel:
    return FolderModel(decoder_folder(folder, genai=True, shares=True), threads=1)


@pytest.fixture(params=[fake, plain, of_genai, of_genai_shared])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> LanguageModel:
    return request.param(tmp_path)


def test_a_text_comes_back_from_its_tokens_whole_and_piece_by_piece(model: LanguageModel) -> None:
    tokens = model.tokenizer.tokens(TEXT, special=False)
    assert model.tokenizer.text(tokens) == TEXT
    assert all(0 <= token < model.tokenizer.size for token in tokens)
    spelling = model.tokenizer.spelling()
    pieces = [spelling.add(token) for token in tokens]
    assert "".join(pieces) == TEXT
    assert "\ufffd" not in "".join(pieces)


def test_what_is_next_does_not_depend_on_how_a_text_was_cut_or_what_else_is_read(model: LanguageModel) -> None:
    tokens = model.tokenizer.tokens("joules and grams", special=False)
    at_once = model.decoder.begin(64).feed(tokens)
    one, parts, other = (model.decoder.begin(64) for _ in range(3))
    for at, token in enumerate(tokens):
        last = one.feed([token])
        other.feed([token, token])
        if at % 3 == 2 or at == len(tokens) - 1:
            of_parts = parts.feed(tokens[at - at % 3 : at + 1])
    assert last.shape == (model.tokenizer.size,)
    assert last == pytest.approx(at_once, abs=1e-4)
    assert of_parts == pytest.approx(at_once, abs=1e-4)


def test_a_text_that_was_stopped_is_gone_on_with_no_more(model: LanguageModel) -> None:
    stopped, other = model.decoder.begin(4), model.decoder.begin(4)
    stopped.stop()
    with pytest.raises(Unavailable):
        stopped.feed([1])
    other.feed([1])


@pytest.mark.parametrize(("genai", "shares"), [(False, False), (True, False), (True, True)])
def test_a_decoder_is_continued_as_numpy_computes_it_without_a_past(tmp_path: Path, genai: bool, shares: bool) -> None:
    model = FolderModel(decoder_folder(tmp_path, genai=genai, shares=shares), threads=1)
    assert model.decoder.shares == shares
    reference = DecoderModel()
    tokens = model.tokenizer.tokens("What does a run use?", special=False)
    continuation = model.decoder.begin(len(tokens) + 12)
    logits = continuation.feed(tokens)
    told = list(tokens)
    for _ in range(12):
        assert logits == pytest.approx(reference.logits(told), abs=2e-4)
        told.append(int(np.argmax(logits)))
        logits = continuation.feed(told[-1:])


def test_a_model_of_several_threads_gives_the_same_and_knows_their_time(tmp_path: Path) -> None:
    model = FolderModel(decoder_folder(tmp_path, genai=True, shares=True), threads=3)
    logits = model.decoder.begin(64).feed([5, 6, 7] * 20)
    assert logits == pytest.approx(DecoderModel().logits([5, 6, 7] * 20), abs=2e-4)
    assert model.decoder.crew_seconds() is not None
    assert FolderModel(tmp_path, threads=1).decoder.crew_seconds() is None


def test_a_conversation_is_written_down_by_the_template_with_its_marks(tmp_path: Path) -> None:
    model = FolderModel(decoder_folder(tmp_path), threads=1)
    tokens = model.conversation([{"role": "system", "content": "be brief"}, {"role": "user", "content": "joules?"}])
    text = "<|system|>be brief\n<|user|>joules?\n<|assistant|>"
    assert tokens == decoder_tokenizer().encode(text).ids
    assert decoder_tokenizer().decode(tokens, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (
            "{% if tools is not none %}{{ tools | tojson }}{% endif %}{{ bos_token }}{{ messages[0].content }}",
            "<s>é<x>",
        ),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "é<x>"),
        ("{{ messages[0] | tojson(indent=None, sort_keys=True) }}", '{"content": "é<x>", "role": "user"}'),
        (
            "{% for m in messages * 3 %}{% if loop.index > 2 %}{% break %}{% endif %}{{ m.role | trim }} {% endfor %}",
            "user user ",
        ),
        ("{% set ns = namespace(n=0) %}{% set ns.n = 5 %}{{ ns.n }}{{ strftime_now('%Y') | length }}", "54"),
    ],
)
def test_what_templates_of_models_use_is_there(template: str, written: str) -> None:
    told = ChatTemplate(template, {"bos_token": "<s>"}).written([{"role": "user", "content": "é<x>"}])
    assert told == written


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ raise_exception('roles must take turns') }}", "roles must take turns"),
        ("{{ messages[0].content + 1 }}", "cannot write this conversation"),
        ("{{ messages.append(1) }}", "refuses this conversation"),
        ("{{ ''.__class__.__mro__ }}", "refuses this conversation"),
    ],
)
def test_a_template_that_cannot_or_must_not_is_told_to_the_caller(tmp_path: Path, template: str, told: str) -> None:
    folder = decoder_folder(tmp_path)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(Refused, match=told):
        FolderModel(folder, threads=1).conversation([{"role": "user", "content": "x"}])


def test_a_model_without_a_template_takes_no_conversations(tmp_path: Path) -> None:
    model = FolderModel(decoder_folder(tmp_path, template=False), threads=1)
    with pytest.raises(Refused, match="no chat template"):
        model.conversation([])


def spoilt(folder: Path, file: str, content: bytes | None) -> None:
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("model.onnx", None, "has no model.onnx"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("model.onnx", b"no model", "is not an ONNX model"),
        ("tokenizer.json", b"{}", "cannot read the tokenizer"),
        ("config.json", b"{", "cannot read"),
        ("config.json", b'{"eos_token_id": 1}', "max_position_embeddings"),
        ("config.json", b'{"max_position_embeddings": 9}', "names no eos_token_id"),
        ("tokenizer_config.json", b'{"chat_template": "{% if %}"}', "is no Jinja"),
    ],
)
def test_a_folder_that_cannot_be_served_is_told_by_its_file(
    tmp_path: Path, file: str, content: bytes | None, told: str
) -> None:
    folder = decoder_folder(tmp_path)
    spoilt(folder, file, content)
    with pytest.raises(Refused, match=told):
        FolderModel(folder, threads=1)


def test_a_graph_without_a_past_is_no_decoder(tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path)
    model, _ = encoder_files(tmp_path / "encoder")
    (folder / "model.onnx").write_bytes(model.read_bytes())
    with pytest.raises(Refused, match=r"no decoder that can be continued.*token_type_ids"):
        FolderModel(folder, threads=1)


def test_a_context_is_at_most_what_is_told_and_what_the_model_has(tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path)
    assert FolderModel(folder, threads=1, context_tokens_max=9).decoder.context_tokens_max == 9
    assert FolderModel(folder, threads=1, context_tokens_max=9_999).decoder.context_tokens_max == 256


def test_an_answer_keeps_the_space_that_a_text_would_not_begin_with(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(show_progress=False))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    read = FileTokenizer(tmp_path / "tokenizer.json")
    prompt, answer = read.tokens("Every joule"), read.tokens("counts:")
    spelling = read.spelling(prompt)
    assert "".join(spelling.add(token) for token in answer) == " counts:"


def test_a_text_that_is_cut_keeps_the_mark_of_its_end(tmp_path: Path) -> None:
    _, path = encoder_files(tmp_path)
    whole = FileTokenizer(path).tokens("joules and grams and dollars")
    cut = FileTokenizer(path, truncated_to=4).tokens("joules and grams and dollars")
    assert cut == [*whole[:3], whole[-1]]


def test_a_folder_that_says_too_much_of_its_graph_is_served_without_what_it_cannot(tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path, genai=True, shares=True)
    config = json.loads((folder / "genai_config.json").read_text())
    for part in ("key", "value"):
        config["model"]["decoder"]["inputs"][f"past_{part}_names"] = f"past_key_values.%d.{part}"
    config["model"]["decoder"]["inputs"]["position_ids"] = "position_ids"
    (folder / "genai_config.json").write_text(json.dumps(config))
    (folder / "model.onnx").write_bytes(DecoderModel().file())
    model = FolderModel(folder, threads=1)
    assert not model.decoder.shares
    logits = model.decoder.begin(8).feed([5, 6, 7])
    assert logits == pytest.approx(DecoderModel().logits([5, 6, 7]), abs=2e-4)


def test_the_names_of_a_graph_are_those_that_its_configuration_tells(tmp_path: Path) -> None:
    folder = decoder_folder(tmp_path, genai=True)
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["inputs"]["past_key_names"] = "elsewhere.%d"
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(Refused, match="no decoder that can be continued"):
        FolderModel(folder, threads=1)
