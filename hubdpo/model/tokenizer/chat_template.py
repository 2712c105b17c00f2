"""What a chat template takes beside the messages, and what it looks for inside them, read from its Jinja source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

from hubdpo.errors import ConfigError

GIVEN = {
    "messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now", "bos_token",
    "eos_token", "pad_token", "unk_token",
}  # fmt: skip
"""What transformers gives to every template."""
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
_STRIPS = {"strip", "lstrip", "rstrip", "trim"}
_OF_NAMES = {"map", "selectattr", "rejectattr", "groupby", "sort", "raise_exception", "strftime_now"}


def with_template_kwargs(tokenizer: Any, kwargs: Mapping[str, Any] | None, name: str) -> Any:
    """Return the tokenizer with `kwargs` as the defaults of its chat template: whoever renders with it gives them.

    What a caller gives to `apply_chat_template` itself still wins. Raise ConfigError for a name that the template of
    the model `name` does not read.
    """
    if not kwargs:
        return tokenizer
    templates = tokenizer.chat_template if isinstance(tokenizer.chat_template, dict) else {"": tokenizer.chat_template}
    read = set().union(*(_variables(template) for template in templates.values()))
    for key in kwargs:
        if key not in read:
            others = ", ".join(f"`{other}`" for other in sorted(read)) or "nothing beside the messages"
            raise ConfigError(
                f"the chat template of {name} does not read `{key}`",
                hint=f"leave it out of `--chat-template-kwargs`; this template reads {others}",
            )
    # a block and its newline vanish from what is rendered (trim_blocks)
    defaults = "".join(
        f"{{% set {key} = {key} if {key} is defined else {value!r} %}}\n" for key, value in sorted(kwargs.items())
    )
    made = {key: defaults + template for key, template in templates.items()}
    tokenizer.chat_template = made if isinstance(tokenizer.chat_template, dict) else made[""]
    return tokenizer


@dataclass(frozen=True)
class LookedFor:
    """What a template looks for in contents: texts with which it compares, splits or replaces, and where it strips."""

    texts: tuple[str, ...]
    edges: bool

    def stands_in(self, content: str) -> bool:
        """Tell whether the template may write this content otherwise than as it is."""
        return (
            not content
            or any(text in content for text in self.texts)
            or (self.edges and (content[0].isspace() or content[-1].isspace()))
        )


def looked_for(template: str) -> LookedFor | None:
    """Read from its source what a template looks for; None when it cannot be read."""
    tree = _tree(template)
    if tree is None:
        return None
    texts = {text for text in _compared(tree) if text.strip()}
    return LookedFor(tuple(sorted(texts)), any(word in template for word in _STRIPS))


def _variables(template: str) -> set[str]:
    """Return the names that the template takes from its caller."""
    tree = _tree(template)
    if tree is None:
        return set()
    tested = {test.node.name for test in tree.find_all(nodes.Test) if isinstance(test.node, nodes.Name)}
    own = {argument.name for macro in tree.find_all(nodes.Macro) for argument in macro.args}
    return meta.find_undeclared_variables(tree) - GIVEN - own - (set(_assigned(tree)) - tested)


def _assigned(tree: nodes.Template) -> dict[str, list[nodes.Node]]:
    values: dict[str, list[nodes.Node]] = {}
    for assignment in tree.find_all(nodes.Assign):
        if isinstance(assignment.target, nodes.Name):
            values.setdefault(assignment.target.name, []).append(assignment.node)
    return values


def _tree(template: str) -> nodes.Template | None:
    try:
        return Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_GENERATION.sub("", template))
    except (TemplateSyntaxError, RecursionError):
        return None


def _compared(tree: nodes.Template) -> Iterator[str]:
    """Give every text constant with which the template may look at a content."""
    # the turns of a loop are messages or parts of one, and what is compared with them is the name of a member
    turns = {loop.target.name for loop in tree.find_all(nodes.For) if isinstance(loop.target, nodes.Name)}
    assigned = _assigned(tree)
    options = meta.find_undeclared_variables(tree) - set(assigned)
    of_options = {name for name, values in assigned.items() if all(_is_made_of(value, options) for value in values)}
    for comparison in tree.find_all(nodes.Compare):
        sides = [comparison.expr, *(operand.expr for operand in comparison.ops)]
        if not any(_is_no_content(side, turns | options | of_options) for side in sides):
            yield from _texts(sides)
    for call in tree.find_all(nodes.Call):
        if _called(call.node) not in _STRIPS | _OF_NAMES:
            yield from _texts(call.args)
    for kind in (nodes.Filter, nodes.Test):
        for use in tree.find_all(kind):
            if use.name not in _STRIPS | _OF_NAMES:
                yield from _texts(use.args)


def _is_made_of(value: nodes.Node, names: set[str]) -> bool:
    return all(
        isinstance(name, nodes.Name) and name.name in names
        for name in [value, *value.find_all(nodes.Expr)]
        if isinstance(name, (nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Call))
    )


def _is_no_content(side: nodes.Node, others: set[str]) -> bool:
    if isinstance(side, nodes.Getattr):
        return side.attr in ("role", "type")
    if isinstance(side, nodes.Getitem):
        return isinstance(side.arg, nodes.Const) and side.arg.value in ("role", "type")
    return isinstance(side, nodes.Name) and side.name in others


def _called(node: nodes.Node) -> str:
    return str(getattr(node, "attr", None) or getattr(node, "name", ""))


def _texts(sides: list[Any]) -> Iterator[str]:
    for side in sides:
        constants = [side] if isinstance(side, nodes.Const) else side.find_all(nodes.Const)
        yield from (constant.value for constant in constants if isinstance(constant.value, str))
