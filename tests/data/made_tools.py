"""Rows with tool calls, and a base whose chat template shows them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A template that writes tools, calls and reasoning."""
TOOL = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}}}}


def call(place: str = "Brest", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "tide", "arguments": json.dumps({"place": place})}, **more}


def calls(*some: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(some)}


def say(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def row(number: int = 0, **more: Any) -> dict[str, Any]:
    """A pair whose history has a call and its result."""
    prompt = [say("user", f"q{number}"), calls(call(id="1")), say("tool", "06:10", tool_call_id="1", name="tide")]
    return {"prompt": prompt, "chosen": [say("assistant", "At ten past six.")], "rejected": [say("assistant", "No")],
            **more}  # fmt: skip


def base_with_tools(base: Path, folder: Path) -> Path:
    """Copy a base, and give it TEMPLATE."""
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder
