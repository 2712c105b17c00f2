"""`--chat-template-kwargs`: variables of the chat template beside the messages, as in TRL."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BeforeValidator

from hubdpo.config.base import Cli, Unfit, Values
from hubdpo.config.json_option import json_object

HELP = """Variables for the chat template, such as enable_thinking=false or '{"enable_thinking": false}'."""
_HINT = "--chat-template-kwargs enable_thinking=false"


def read_template_kwargs(value: object) -> object:
    """Parse a JSON object, or NAME=VALUE pairs separated by commas, each value JSON or a word. A mapping is kept."""
    if isinstance(value, str):
        is_json = value.lstrip().startswith("{")
        value = json_object(value, hint=_HINT) if is_json else dict(map(_pair, value.split(",")))
    if isinstance(value, dict):
        for name in value:
            if not str(name).isidentifier():
                raise Unfit(f"`{name}` is not a variable name", hint=_HINT)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise Unfit("it holds a value that JSON cannot, and options are recorded", hint=_HINT) from None
    return value or None


TemplateKwargs = Annotated[
    Values | None, BeforeValidator(read_template_kwargs), Cli(metavar="JSON|NAME=VALUE", text=True)
]


def _pair(part: str) -> tuple[str, object]:
    name, equals, value = part.partition("=")
    if not equals:
        raise Unfit(f"`{part}` is not NAME=VALUE", hint=_HINT)
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value.strip()
