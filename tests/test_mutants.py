"""The table of mutants fits the code: each text stands once in its file, and the tests that must notice exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.check_mutants import ROOT, Mutant, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    text = (ROOT / "hubdpo" / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    assert mutant.new != mutant.old
    paths = [word.partition("::")[0] for word in mutant.tests if word.startswith("tests/")]
    assert paths
    assert all(Path(ROOT / path).exists() for path in paths)
