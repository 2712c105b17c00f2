"""In a notebook, progress is a bar that is updated in place, and lines are plain text in one output."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubdpo.errors import Stopped
from tests import kernel

STAGES = """\
import hubdpo

rows = [{{"prompt": f"What is {{n}} + 1?", "chosen": f"{{n}} + 1 is {{n + 1}}.", "rejected": "No."}} for n in range(40)]
hubdpo.prepare(rows, "data", license="mit", test_size=0.2)
hubdpo.train(
    model_name_or_path="{base}", dataset="data", output_dir="run", max_steps=4, max_length=128, logging_steps=1
)
hubdpo.push("run", "{repo}", version="1.0.0", check="hashes")
"""
SLOWLY = """\
import time
import IPython.display
from hubdpo import console

states, update = [], IPython.display.DisplayHandle.update
IPython.display.DisplayHandle.update = lambda *given, **how: (states.append(given[1]), update(*given, **how))
with console.progress("counting", 100) as bar:
    for _ in range(100):
        time.sleep(0.01)
        bar.update(bar.task_ids[0], advance=1, note="so far")
print(len(states))
"""
WITHOUT_WIDGETS = "import sys\n\nsys.modules['ipywidgets'] = None\nimport tqdm.auto"
"""tqdm warns of it at its import."""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["pass", WITHOUT_WIDGETS], ids=["widgets", "no widgets"])
def test_each_stage_shows_its_bars_once_between_plain_lines(
    first: str, tiny_base_repo: str, repo_id: str, tmp_path: Path
) -> None:
    stages = STAGES.format(base=tiny_base_repo, repo=repo_id)
    _, outputs = kernel.executed(kernel.notebook(first, stages), tmp_path)
    *shown, result = outputs
    bars = [kernel.text(each) for each in shown if each.output_type == "display_data"]
    lines = [each for each in shown if each.output_type == "stream"]
    labels = [bar.partition("━")[0].strip() for bar in bars]
    assert {"preparing", "training", "scoring with the base"} <= {*labels}
    assert len(labels) == len({*labels})
    assert all("100%" in bar and "\n" not in bar for bar in bars)
    assert [list(each.data) for each in shown if each.output_type == "display_data"] == [["text/plain"]] * len(bars)
    assert {each.name for each in lines} == {"stdout"}
    assert "step 4/4" in "".join(map(kernel.text, lines))
    assert not any("\x1b" in kernel.text(each) for each in outputs)
    assert kernel.text(result).startswith("Release\n")
    assert len(kernel.text(result).splitlines()) < 20


def test_a_bar_is_redrawn_a_few_times_a_second(tmp_path: Path) -> None:
    (outputs,) = kernel.executed(kernel.notebook(SLOWLY), tmp_path)
    bar, states = map(kernel.text, outputs)
    assert "counting" in bar
    assert "100% so far" in bar
    assert 3 <= int(states) <= 12


def test_a_mistake_is_shown_as_its_message_and_hint(tmp_path: Path) -> None:
    cell = "import hubdpo\n\nhubdpo.prepare('nowhere.jsonl', 'data')"
    (outputs,) = kernel.executed(kernel.notebook(cell), tmp_path, may_fail=True)
    message, hint = outputs[-1].traceback
    assert message.startswith("DataError: ")
    assert "nowhere.jsonl" in message
    assert hint.startswith("hint: ")


def test_an_interrupted_cell_shows_how_to_go_on() -> None:
    assert Stopped("train(resume=True)")._render_traceback_() == ["Stopped: stopped", "hint: train(resume=True)"]
