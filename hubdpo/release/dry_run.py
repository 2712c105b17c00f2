"""What a push would do: every file beside what the Hub has, and the steps; nothing is written."""

from __future__ import annotations

from hubdpo import console
from hubdpo.artefacts.manifests.bundle import Bundle
from hubdpo.config import PushConfig
from hubdpo.errors import HubError
from hubdpo.release.bundle import BundleContent
from hubdpo.release.remote import Remote, Tree, check_ours, check_visibility, is_at, stage_name


def show_plan(config: PushConfig, content: BundleContent, remote: Remote) -> None:
    """Show files, bytes and steps. Raise as the push itself would: VersionTaken, or HubError for the visibility."""
    tag = f"v{config.version}"
    tree: Tree = {}
    old: Bundle | None = None
    taken = head = None
    exists = remote.exists()
    if exists:
        check_visibility(remote, config.private)
        if (taken := remote.tags().get(tag)) is not None:
            check_ours(remote, content, tag, taken)
        if (head := remote.branches().get("main")) is not None:
            tree = remote.tree(head)
            old = remote.bundle(head, tree)
    rows, total, sent = [], 0, 0
    for path, value in content.files.items():
        size = len(value) if isinstance(value, bytes) else value.stat().st_size
        same = is_at(tree, path, content)
        rows.append((path, f"{size:,}", "unchanged" if same else "changed" if path in tree else "new"))
        total, sent = total + size, sent + (0 if same else size)
    gone = [path for path in (old.files if old else {}) if path in tree and path not in content.files]
    rows += [(path, "", "deleted") for path in gone]
    kept = sorted(set(tree) - {path for path, _, _ in rows})
    rows.append((f"{len(content.files)} files", f"{total:,}", f"{sent:,} to send"))
    console.table(["file", "bytes", "on the Hub"], rows, title=f"{config.repo} {tag}")
    if kept:
        console.info(f"not hubdpo's, and left as they are: {', '.join(kept)}")
    for number, step in enumerate(_steps(config, content, exists=exists, released=taken is not None), start=1):
        console.info(f"{number}. {step}")


def _steps(config: PushConfig, content: BundleContent, *, exists: bool, released: bool) -> list[str]:
    tag, stage = f"v{config.version}", stage_name(content)
    if config.create_pr and not exists:
        raise no_repo_for_proposal(config.repo)
    compare = "download it into an empty cache, compare every SHA-256" + (", load it" * (config.check == "load"))
    if released:
        steps = [f"{tag} holds these files already: bring main to them where it is behind"]
    elif config.create_pr:
        steps = ["open a pull request with one commit onto main, or find the open one", compare]
    else:
        steps = [
            *([] if exists else [f"create the {'private ' * bool(config.private)}{content.kind} repo {config.repo}"]),
            f"branch {stage} from main",
            "one commit there",
            compare,
            f"tag {tag}, which never moves",
            f"the same files onto main, unless it holds a higher version; delete {stage}",
        ]
    return steps + ([f"add {config.repo} to the collection {config.collection}"] if config.collection else [])


def no_repo_for_proposal(repo: str) -> HubError:
    return HubError(f"`{repo}` is not on the Hub, so nothing can be proposed to it", hint="leave out `--create-pr`")
