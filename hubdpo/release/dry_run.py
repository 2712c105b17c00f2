"""Show what a push would do: every file beside the one on the Hub, and the steps. Nothing is written."""

from __future__ import annotations

from hubdpo import console
from hubdpo.config import PushConfig
from hubdpo.release.protocol import check_ours, is_behind
from hubdpo.release.remote import Refs, Remote
from hubdpo.release.snapshot import Plan, ReleaseSnapshot


def show_plan(config: PushConfig, release: ReleaseSnapshot, remote: Remote, refs: Refs) -> None:
    """Show files, bytes and steps. Raise VersionTaken as the push itself would."""
    tagged = refs.tags.get(release.tag)
    if tagged is not None:
        check_ours(remote, refs, release, tagged)
    plan = Plan(remote.at(refs.main) if refs.main else None, release)
    rows: list[tuple[str, str, str]] = [
        (name, f"{release.files[name]:,}", state) for name, state in plan.states.items()
    ]
    rows += [(name, "", "deleted") for name in plan.deleted]
    total, sent = sum(release.files.values()), sum(release.files[name] for name in plan.sent)
    rows.append((f"{len(release.files)} files", f"{total:,}", f"{sent:,} to send"))
    console.table(["file", "bytes", "on the Hub"], rows, title=f"{config.repo} {release.tag}")
    if plan.kept:
        console.info(f"not hubdpo's, and left as they are: {', '.join(plan.kept)}")
    for number, step in enumerate(_steps(config, plan, remote, refs), start=1):
        console.info(f"{number}. {step}")


def _steps(config: PushConfig, plan: Plan, remote: Remote, refs: Refs) -> list[str]:
    release = plan.new
    compare = "download it into an empty folder, compare every SHA-256" + (", load it" * (config.check == "load"))
    if release.tag in refs.tags:
        steps = ["bring main to these files"] if is_behind(plan) else []
        steps += [f"delete {release.stage}"] if release.stage in refs.branches else []
        steps = [f"{release.tag} holds these files already{'' if steps else ': nothing to do'}", *steps]
    elif config.create_pr:
        steps = ["open a pull request with one commit onto main, or find the open one", compare]
    else:
        create = f"create the {'private ' * bool(config.private)}{remote.repo_type} repo {config.repo}"
        steps = [
            *([] if refs.exists else [create]),
            f"branch {release.stage} from main",
            "one commit there",
            compare,
            f"tag {release.tag}, which never moves",
            f"the same files onto main, unless it holds a higher version; delete {release.stage}",
        ]
    return steps + ([f"add {config.repo} to the collection {config.collection}"] if config.collection else [])
