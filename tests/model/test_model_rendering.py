"""A chat template is rendered within limits of time, memory and length, and leaves the process as it was."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer

from hubdpo.data.tokens import encoder
from hubdpo.data.tokens.encoder import ChatEncoder
from hubdpo.errors import ArtefactError, HubdpoError, UnsupportedBase
from hubdpo.evaluation.samples import PROMPTS
from hubdpo.model.generation import answer_chat
from hubdpo.model.probes import PAIRS, _encode
from hubdpo.model.tokenizer import load as tokenizer_load
from hubdpo.model.tokenizer import rendering
from hubdpo.model.tokenizer.load import read_tokenizer
from hubdpo.model.tokenizer.rendering import encoded, rendered

CHAT = [{"role": "user", "content": "Hello there"}]
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' }}{% endfor %}{% endfor %}"
MEMORY = "{{ 'a' * 10 ** 10 }}"
ROWS = {
    "loops": (LOOPS, "more than 1 seconds"),
    "loops in a block of transformers": ("{%+ generation %}" + LOOPS + "{% endgeneration %}", "more than 1 seconds"),
    "loops this year": ("{% if strftime_now('%' ~ 'Y') != '2024' %}" + LOOPS + "{% endif %}", "more than 1 seconds"),
    "a power that is folded": ("{{ 9 ** (9 ** 9) }}", "more than 1 seconds"),
    "memory": (MEMORY, "more than 512 MB"),
    "memory, bit by bit": (
        "{% set n = namespace(t='a') %}{% for i in range(40) %}{% set n.t = n.t + n.t %}{% endfor %}",
        "more than 512 MB",
    ),
    "calls of itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "the depth"),
    "nesting": ("{{" + "(" * 100_000, "the depth"),
    "length": ("{{ 'a' * 1001000 }}", "1,001,000 characters of a chat, and at most 1,000,"),
}


@pytest.fixture
def tokenizer(tiny_base: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    says = request.node.callspec.params.get("says", "") if hasattr(request.node, "callspec") else ""
    monkeypatch.setattr(rendering, "SECONDS", 1 if "seconds" in says else 60)  # making memory is slow where it is busy
    return AutoTokenizer.from_pretrained(tiny_base)


def state() -> list[Any]:
    limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)]
    return [*limits, signal.getsignal(signal.SIGPROF), signal.getitimer(signal.ITIMER_PROF)]


@pytest.mark.parametrize(("template", "says"), [pytest.param(*row, id=name) for name, row in ROWS.items()])
@pytest.mark.parametrize("thread", ["main", "other"])
def test_what_is_beyond_a_limit_is_one_error(tokenizer: Any, template: str, says: str, thread: str) -> None:
    if thread == "other" and "9 **" in template:
        pytest.skip("an operation of C lets no other thread run: the kernel ends it, as below")
    tokenizer.chat_template, before, found = template, state(), []

    def render() -> None:
        with pytest.raises(ArtefactError) as caught:
            rendered(tokenizer, CHAT, ask=True)
        found.append(caught.value)

    if thread == "main":
        render()
    else:
        other = threading.Thread(target=render)
        other.start()
        other.join(60)
    assert says in found[0].message
    assert "chat_template" in found[0].message
    assert found[0].hint
    assert state() == before


def test_a_rendering_within_limits_is_that_of_transformers(tokenizer: Any) -> None:
    before = state()
    for ask in (True, False):
        theirs = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=ask)
        assert rendered(tokenizer, CHAT, ask=ask) == theirs
    theirs = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ours = encoded(tokenizer, CHAT)
    assert {name: value.tolist() for name, value in ours.items()} == {name: v.tolist() for name, v in theirs.items()}
    assert state() == before


def test_a_chat_that_says_much_may_be_long(tokenizer: Any) -> None:
    text = "a" * 1_500_000
    assert text in rendered(tokenizer, [{"role": "user", "content": text}], ask=True)


def test_the_timer_of_another_goes_on(tokenizer: Any) -> None:
    mine = lambda *given: None  # noqa: E731
    before = signal.signal(signal.SIGPROF, mine)
    signal.setitimer(signal.ITIMER_PROF, 1000, 500)
    try:
        rendered(tokenizer, CHAT, ask=True)
        left, interval = signal.getitimer(signal.ITIMER_PROF)
        assert (900 < left <= 1001, interval, signal.getsignal(signal.SIGPROF)) == (True, 500, mine)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def test_a_lower_limit_of_memory_stays(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    was = resource.getrlimit(resource.RLIMIT_AS)
    low = (rendering._virtual_size() or 0) + (100 << 20)
    tokenizer.apply_chat_template = lambda *args, **kwargs: str(resource.getrlimit(resource.RLIMIT_AS)[0])
    resource.setrlimit(resource.RLIMIT_AS, (low, was[1]))
    try:
        assert rendered(tokenizer, CHAT, ask=True) == str(low)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, was)


def test_threads_that_render_at_once_leave_the_limits_as_they_were(tokenizer: Any) -> None:
    before, first_renders, second_renders = state(), threading.Event(), threading.Event()

    def render(mine: threading.Event, others: threading.Event) -> None:
        def call() -> None:
            mine.set()
            others.wait(0.5)  # the one that began first ends first

        rendering.bounded(call, tokenizer, ArtefactError)

    first = threading.Thread(target=render, args=(first_renders, second_renders))
    second = threading.Thread(target=render, args=(second_renders, threading.Event()))
    first.start()
    assert first_renders.wait(10)
    second.start()
    first.join(10)
    second.join(10)
    assert state() == before


def test_a_process_forked_while_a_thread_renders_has_no_lower_limit(tokenizer: Any) -> None:
    before, renders = state(), threading.Event()

    def call() -> None:
        renders.set()
        time.sleep(0.5)

    other = threading.Thread(target=rendering.bounded, args=(call, tokenizer, ArtefactError))
    other.start()
    assert renders.wait(10)
    child = os.fork()
    if not child:
        os._exit(0 if state() == before and rendered(tokenizer, CHAT, ask=True) else 1)
    other.join(10)
    assert os.waitpid(child, 0)[1] == 0


def test_a_template_that_refuses_is_heard(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(TemplateError, match="no"):
        rendered(tokenizer, CHAT, ask=True)


def test_what_python_cannot_stop_the_kernel_does() -> None:
    # minutes in one operation of C, between whose steps no handler of Python runs
    code = (
        "import hashlib; from hubdpo.model.tokenizer import rendering\n"
        "rendering.SECONDS, rendering.SECONDS_IN_C = 1, 2\n"
        "class Tokenizer:\n"
        "    name_or_path = '.'\n"
        "    def apply_chat_template(self, *_, **__): hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2**31 - 1)\n"
        f"rendering.rendered(Tokenizer(), {CHAT!r}, ask=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGXCPU, done.stderr


@pytest.mark.parametrize(("what", "says"), [(LOOPS, "more than 1 seconds"), (MEMORY, "more than 512 MB")])
def test_every_place_that_renders_is_bounded(tokenizer: Any, what: str, says: str) -> None:
    plain = tokenizer.chat_template

    def grown_for(text: str) -> Any:
        condition = f"{{% if {json.dumps(text)} in messages[0].content %}}"
        tokenizer.chat_template = f"{condition}{what}{{% endif %}}{plain}"
        return tokenizer

    encoder = ChatEncoder(grown_for("Question 40"))
    with pytest.raises(UnsupportedBase, match=says):
        encoder.prompt([{"role": "user", "content": "Question 40?"}])
    with pytest.raises(ArtefactError, match=says):
        _encode(grown_for(PAIRS[0][0]), *PAIRS[0][:2], None)
    with pytest.raises(UnsupportedBase, match=says):
        chat = [{"role": "user", "content": PROMPTS[0]}]
        answer_chat(None, grown_for(PROMPTS[0]), chat, max_new_tokens=1, error=UnsupportedBase)


@pytest.mark.parametrize(
    ("module", "name", "read"),
    [
        (encoder, "content_rules", lambda folder: ChatEncoder(AutoTokenizer.from_pretrained(folder))),
        (tokenizer_load, "with_template_kwargs", lambda folder: read_tokenizer(folder, {"a": 1})),
    ],
)
def test_a_template_is_read_within_the_limits_too(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, read: Any
) -> None:
    """Jinja folds constants where it looks for variables, which can take for ever."""
    before, during = state(), []

    def look(*_: Any) -> None:
        during.append(state())
        raise MemoryError

    monkeypatch.setattr(module, name, look)
    with pytest.raises(HubdpoError, match="takes more than 512 MB"):
        read(tiny_base)
    assert during[0] != before == state()


def test_a_template_that_writes_nothing_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ a }}"
    with pytest.raises(ArtefactError, match="renders a chat as empty text"):
        encoded(tokenizer, CHAT)
