"""Read the Jinja source of a chat template: which options it takes, and which message contents it treats specially."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

from hubdpo.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FROM_TRANSFORMERS = {
    "messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now", "bos_token",
    "eos_token", "pad_token", "unk_token",
}  # fmt: skip
"""Variables that transformers passes to every template."""
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
_STRIPS = {"strip", "lstrip", "rstrip", "trim"}
_TAKE_NAMES = {"map", "selectattr", "rejectattr", "groupby", "sort", "raise_exception", "strftime_now"}
"""Filters and functions whose text arguments are names of fields or formats, never contents."""


def templates_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Return the chat templates of a tokenizer by name; the only template of most has the name ``""``."""
    templates = tokenizer.chat_template or {}
    return templates if isinstance(templates, dict) else {"": templates}


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the texts of the special tokens of a tokenizer: those that no text should spell."""
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}


def with_template_kwargs(
    tokenizer: PreTrainedTokenizerBase, kwargs: Mapping[str, object] | None, name: str
) -> PreTrainedTokenizerBase:
    """Return the tokenizer with `kwargs` as the defaults of its chat template, whoever renders with it.

    What a caller passes to `apply_chat_template` still wins. Raise ConfigError for an option that the template of the
    model `name` does not read.
    """
    if not kwargs:
        return tokenizer
    templates = templates_of(tokenizer)
    options = set().union(*map(_options_of, templates.values()))
    for key in kwargs:
        if key not in options:
            others = ", ".join(f"`{option}`" for option in sorted(options)) or "nothing beside the messages"
            raise ConfigError(
                f"the chat template of {name} does not read `{key}`",
                hint=f"leave it out of `--chat-template-kwargs`; this template reads {others}",
            )
    # these lines render as nothing: Jinja drops a block together with its newline (trim_blocks)
    defaults = "".join(
        f"{{% set {key} = {key} if {key} is defined else {value!r} %}}\n" for key, value in sorted(kwargs.items())
    )
    changed = {key: defaults + template for key, template in templates.items()}
    tokenizer.chat_template = changed if isinstance(tokenizer.chat_template, dict) else changed[""]
    return tokenizer


@dataclass(frozen=True)
class ContentRules:
    """Contents that a template may render otherwise than as they are.

    These are empty contents, contents that hold one of `texts`, with which the template compares, splits or replaces,
    and, where it `strips`, contents with white space at an end.
    """

    texts: tuple[str, ...]
    strips: bool

    def may_change(self, content: str) -> bool:
        """Tell whether the template may render this content otherwise than as it is."""
        return (
            not content
            or any(text in content for text in self.texts)
            or (self.strips and (content[0].isspace() or content[-1].isspace()))
        )


def content_rules(template: str) -> ContentRules | None:
    """Read the content rules of a template from its source; return None when the source cannot be parsed."""
    tree = _parse(template)
    if tree is None:
        return None
    texts = {text for text in _compared_texts(tree) if text.strip()}
    return ContentRules(tuple(sorted(texts)), any(word in template for word in _STRIPS))


def _options_of(template: str) -> set[str]:
    """Return the variables that a template takes from its caller beside those of transformers."""
    tree = _parse(template)
    if tree is None:
        return set()
    # `{% set x = x if x is defined else ... %}` assigns x and yet takes it from the caller
    tested = {test.node.name for test in tree.find_all(nodes.Test) if isinstance(test.node, nodes.Name)}
    arguments = {argument.name for macro in tree.find_all(nodes.Macro) for argument in macro.args}
    return meta.find_undeclared_variables(tree) - FROM_TRANSFORMERS - arguments - (set(_assigned(tree)) - tested)


def _assigned(tree: nodes.Template) -> dict[str, list[nodes.Node]]:
    values: dict[str, list[nodes.Node]] = {}
    for assignment in tree.find_all(nodes.Assign):
        if isinstance(assignment.target, nodes.Name):
            values.setdefault(assignment.target.name, []).append(assignment.node)
    return values


def _parse(template: str) -> nodes.Template | None:
    try:
        return Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_GENERATION.sub("", template))
    except (TemplateSyntaxError, RecursionError):
        return None


def _compared_texts(tree: nodes.Template) -> Iterator[str]:
    """Yield every text constant with which a template may examine a content.

    A comparison counts unless one side is known not to be a content: a role or type, a loop variable (a whole message,
    or one part of it), an option of the caller, or a variable made of options alone.
    """
    loop_variables = {loop.target.name for loop in tree.find_all(nodes.For) if isinstance(loop.target, nodes.Name)}
    assigned = _assigned(tree)
    options = meta.find_undeclared_variables(tree) - set(assigned)
    made_of_options = {
        name for name, values in assigned.items() if all(_is_made_of(value, options) for value in values)
    }
    no_contents = loop_variables | options | made_of_options
    for comparison in tree.find_all(nodes.Compare):
        sides = [comparison.expr, *(operand.expr for operand in comparison.ops)]
        if not any(_is_no_content(side, no_contents) for side in sides):
            yield from _texts_in(sides)
    for call in tree.find_all(nodes.Call):
        if (getattr(call.node, "attr", None) or getattr(call.node, "name", "")) not in _STRIPS | _TAKE_NAMES:
            yield from _texts_in(call.args)
    for kind in (nodes.Filter, nodes.Test):
        for use in tree.find_all(kind):
            if use.name not in _STRIPS | _TAKE_NAMES:
                yield from _texts_in(use.args)


def _is_made_of(value: nodes.Node, names: set[str]) -> bool:
    """Tell whether an expression reads only these variables, and no field, item or result of a call."""
    return all(
        isinstance(part, nodes.Name) and part.name in names
        for part in [value, *value.find_all(nodes.Expr)]
        if isinstance(part, (nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Call))
    )


def _is_no_content(side: nodes.Node, no_contents: set[str]) -> bool:
    if isinstance(side, nodes.Getattr):
        return side.attr in ("role", "type")
    if isinstance(side, nodes.Getitem):
        return isinstance(side.arg, nodes.Const) and side.arg.value in ("role", "type")
    return isinstance(side, nodes.Name) and side.name in no_contents


def _texts_in(expressions: Sequence[nodes.Node]) -> Iterator[str]:
    for expression in expressions:
        constants = [expression] if isinstance(expression, nodes.Const) else expression.find_all(nodes.Const)
        yield from (constant.value for constant in constants if isinstance(constant.value, str))
