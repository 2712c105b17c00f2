"""Citations of a model card: method, tools, base model and data."""

from __future__ import annotations

import re
from pathlib import Path

from hubdpo.artefacts.formats.bounded import read_text
from hubdpo.artefacts.manifests.manifest import CARD_FILE
from hubdpo.artefacts.manifests.run import RunManifest

BIBTEX = re.compile(r"^```bibtex\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
LONGEST = 4_000
"""Longest citation of a dataset, in characters."""

DPO = """\
@inproceedings{rafailov2023direct,
  title = {Direct Preference Optimization: Your Language Model is Secretly a Reward Model},
  author = {Rafael Rafailov and Archit Sharma and Eric Mitchell and Stefano Ermon and Christopher D. Manning and
    Chelsea Finn},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2023}}"""
QLORA = """\
@inproceedings{dettmers2023qlora,
  title = {QLoRA: Efficient Finetuning of Quantized LLMs},
  author = {Tim Dettmers and Artidoro Pagnoni and Ari Holtzman and Luke Zettlemoyer},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2023}}"""
TRL = """\
@software{vonwerra2020trl,
  title = {TRL: Transformers Reinforcement Learning},
  author = {Leandro von Werra and others}, year = {2020}, url = {https://github.com/huggingface/trl}}"""

PAPERS = {"Qwen/Qwen2-": "2407.10671", "Qwen/Qwen2.5-": "2412.15115", "Qwen/Qwen3-": "2505.09388"}
"""arXiv ids of the technical reports of base models, by the start of their Hub ids."""


def citation_of(folder: Path) -> str | None:
    """Return the BibTeX entries of a dataset card, None if it has none."""
    card = folder / CARD_FILE
    text = read_text(card) if card.is_file() else ""
    entries = "\n".join(match[1] for match in BIBTEX.finditer(text))
    return entries[:LONGEST] or None


def bibtex(run: RunManifest) -> str:
    """Return the BibTeX entries to cite for a run; the entry of the data is copied from their card."""
    parts = [DPO, *([QLORA] if run.config["load_in_4bit"] else []), TRL, run.dataset.citation]
    return "\n".join(part for part in parts if part)


def links(run: RunManifest) -> list[tuple[str, str]]:
    """Return (name, arXiv id) of the papers behind a run."""
    papers = [("DPO", "2305.18290")]
    if run.config["load_in_4bit"]:
        papers.append(("QLoRA", "2305.14314"))
    base = run.base.repo_id or ""
    papers += [(base.partition("/")[2], number) for begins, number in PAPERS.items() if base.startswith(begins)]
    return papers
