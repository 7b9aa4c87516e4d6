"""How a conversation is written down for a model: by the template that its tokenizer's files hold, in Jinja."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ergonaut.errors import Refused

CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
"""Texts of special tokens that templates use by these names."""


class ChatTemplate:
    """Writes conversations down."""

    def __init__(self, source: str, special: Mapping[str, str]) -> None:
        # Templates come with models, so they get no more of Python than values; white space is as templates are written for.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationMarks], autoescape=False
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        # Of this machine, as the templates that ask for it have it: a date for people to read.
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        self._special = dict(special)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise Refused(f"its chat template is no Jinja: {error}") from error

    def written(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The conversation as text, up to where the model's answer begins. Raises Refused where the template cannot."""
        try:
            # What there is none of is None, and not undefined, for templates that tell these apart.
            return self._template.render(
                messages=list(messages), tools=None, documents=None, add_generation_prompt=True, **self._special
            )
        except TemplateError as error:
            raise Refused(f"the model's chat template refuses this conversation: {error}", field="messages") from error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            # Whatever a template does with a message of a form that it was not made for.
            sentence = f"the model's chat template cannot write this conversation: {type(error).__name__}: {error}"
            raise Refused(sentence, field="messages") from error


def chat_template(folder: Path) -> ChatTemplate | None:
    """The template of a model's folder, or None where it has none. Raises Refused."""
    config = _config(folder / CONFIG)
    source: object = config.get("chat_template")
    if isinstance(source, list):
        named = {each.get("name"): each.get("template") for each in source if isinstance(each, dict)}
        source = named.get("default")
    if (folder / TEMPLATE).is_file():
        source = (folder / TEMPLATE).read_text()
    return ChatTemplate(source, dict(_special(config))) if isinstance(source, str) else None


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"cannot read {path}: {error}") from error
    return read if isinstance(read, dict) else {}


def _special(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The texts of special tokens, which stand there as such or within an object."""
    found: list[tuple[str, str]] = []
    for name in SPECIAL:
        token = config.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            found.append((name, text))
    return found


def _to_json(value: object, **how: Any) -> str:
    # Jinja's own escapes for HTML, which would change what the model reads.
    return json.dumps(value, **{"ensure_ascii": False, **how})


class _GenerationMarks(Extension):
    """Marks around what the model said itself, which training looks at; for writing a conversation down they mean nothing."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
