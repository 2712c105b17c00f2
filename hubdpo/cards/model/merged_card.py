"""The card of a merged model, from its manifest alone."""

from __future__ import annotations

from typing import Any

import jinja2
import yaml

from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.cards.fences import visible
from hubdpo.cards.licences import Licence, data_remark


def render_merged_card(manifest: MergeManifest, *, repo: str, version: str, licence: Licence | None) -> str:
    """Write the card. `licence` is None as long as the model is not published."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hubdpo.cards"), undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip  # Markdown; every value is an id, a number or a word of ours
    body = environment.get_template("merged.md").render(
        template_kwargs=visible("".join(
            f", {name}={value!r}" for name, value in sorted((manifest.chat_template_kwargs or {}).items())
        )),
        repo=repo, name=repo.partition("/")[2], tag=f"v{version}", m=manifest, base=manifest.base,
        data=manifest.dataset, adapter=manifest.adapter, licence=licence, remark=data_remark(manifest.dataset.license),
    )  # fmt: skip
    front = yaml.safe_dump(_front_matter(manifest, licence), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{body}"


def _front_matter(manifest: MergeManifest, licence: Licence | None) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if manifest.base.repo_id:
        front |= {"base_model": manifest.base.repo_id, "base_model_relation": "merge"}
    if licence:
        front["license"] = licence.id
        front |= {f"license_{part}": value for part, value in (("name", licence.name), ("link", licence.link)) if value}
    if manifest.dataset.repo_id:
        front["datasets"] = [manifest.dataset.repo_id]
    front["tags"] = ["dpo", "trl", "merge", "hubdpo"]
    return front
