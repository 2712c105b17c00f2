"""The papers and the software behind a run, for its card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hubdpo.artefacts.manifests.run import RunManifest
from hubdpo.config.objective import REFERENCE_FREE, uses_reference


class Paper(NamedTuple):
    """A method, with its paper."""

    name: str
    arxiv: str
    bibtex: str


DPO = Paper("DPO", "2305.18290", """\
@inproceedings{rafailov2023direct,
  title = {Direct Preference Optimization: Your Language Model is Secretly a Reward Model},
  author = {Rafael Rafailov and Archit Sharma and Eric Mitchell and Stefano Ermon and Christopher D. Manning and
    Chelsea Finn},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2023}}""")  # fmt: skip
WITHOUT_REFERENCE = {
    "simpo": Paper(REFERENCE_FREE["simpo"], "2405.14734", """\
@inproceedings{meng2024simpo,
  title = {{SimPO}: Simple Preference Optimization with a Reference-Free Reward},
  author = {Yu Meng and Mengzhou Xia and Danqi Chen},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2024}}"""),
    "cpo": Paper(REFERENCE_FREE["cpo"], "2401.08417", """\
@inproceedings{xu2024contrastive,
  title = {Contrastive Preference Optimization: Pushing the Boundaries of {LLM} Performance in Machine Translation},
  author = {Haoran Xu and Amr Sharaf and Yunmo Chen and Weiting Tan and Lingfeng Shen and Benjamin Van Durme and
    Kenton Murray and Young Jin Kim},
  booktitle = {International Conference on Machine Learning}, year = {2024}}"""),
    "orpo": Paper(REFERENCE_FREE["orpo"], "2403.07691", """\
@inproceedings{hong2024orpo,
  title = {{ORPO}: Monolithic Preference Optimization without Reference Model},
  author = {Jiwoo Hong and Noah Lee and James Thorne},
  booktitle = {Empirical Methods in Natural Language Processing}, year = {2024}}"""),
}  # fmt: skip
QLORA = Paper("QLoRA", "2305.14314", """\
@inproceedings{dettmers2023qlora,
  title = {QLoRA: Efficient Finetuning of Quantized LLMs},
  author = {Tim Dettmers and Artidoro Pagnoni and Ari Holtzman and Luke Zettlemoyer},
  booktitle = {Advances in Neural Information Processing Systems}, year = {2023}}""")  # fmt: skip
TRL = """\
@software{vonwerra2020trl,
  title = {TRL: Transformers Reinforcement Learning},
  author = {Leandro von Werra and others}, year = {2020}, url = {https://github.com/huggingface/trl}}"""


def methods(losses: Sequence[str]) -> list[Paper]:
    """Return the methods that losses combine: DPO, unless none compares with a reference, and those without.

    None where the losses are not known.
    """
    if not losses:
        return []
    free = [WITHOUT_REFERENCE[name] for name in dict.fromkeys(losses) if name in WITHOUT_REFERENCE]
    return [DPO, *free] if uses_reference(losses) else free


def methods_of(run: RunManifest) -> list[Paper]:
    """Return the methods of a run; of an adopted adapter, the one that its files name, as far as it has a paper."""
    named = run.adopted.method if run.adopted is not None else None
    known = {paper.name: paper for paper in (DPO, *WITHOUT_REFERENCE.values())}
    return methods(run.losses) or [paper for name, paper in known.items() if name == named]


def method_of(run: RunManifest) -> str | None:
    """Return the names of the methods of a run; None where they are not known."""
    return names_of(run.losses) or (run.adopted.method if run.adopted is not None else None)


def names_of(losses: Sequence[str]) -> str | None:
    """Return the names of the methods that losses combine; None where the losses are not known."""
    return " + ".join(paper.name for paper in methods(losses)) or None
