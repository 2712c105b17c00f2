"""Write the card of a merged model from its manifest."""

from __future__ import annotations

from hubdpo.artefacts.manifests.merge import MergeManifest
from hubdpo.cards.fences import visible
from hubdpo.cards.licences import Licence, data_remark
from hubdpo.cards.render import Front, render


def render_merged_card(manifest: MergeManifest, *, repo: str, version: str, licence: Licence | None) -> str:
    """Return the card. `licence` is None until the model is published."""
    kwargs = sorted((manifest.chat_template_kwargs or {}).items())
    return render(
        "merged.md", _front_matter(manifest, licence),
        template_kwargs=visible("".join(f", {name}={value!r}" for name, value in kwargs)),
        repo=repo, name=repo.partition("/")[2], tag=f"v{version}", m=manifest, base=manifest.base,
        data=manifest.dataset, adapter=manifest.adapter, licence=licence, remark=data_remark(manifest.dataset.license),
    )  # fmt: skip


def _front_matter(manifest: MergeManifest, licence: Licence | None) -> Front:
    front: Front = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if manifest.base.repo_id:
        front |= {"base_model": manifest.base.repo_id, "base_model_relation": "merge"}
    if licence:
        front |= licence.front_matter()
    if manifest.dataset.repo_id:
        front["datasets"] = [manifest.dataset.repo_id]
    front["tags"] = ["dpo", "trl", "merge", "hubdpo"]
    return front
