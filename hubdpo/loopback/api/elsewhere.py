"""What clients may ask of huggingface.co and not of this Hub: refused with 501 and a sentence that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hubdpo.loopback.http.wire import Refusal

CLONING = "git itself: `hf download` and `hf upload` move files to and from this Hub"
API = {
    r"buckets(/.*)?": "buckets",
    r"(scheduled-)?jobs(/.*)?": "jobs",
    r"(settings/webhooks|webhooks)(/.*)?": "webhooks",
    r"(users|organizations)/[^/]*/(likes|upvotes|socials)": "likes",
    r"(daily_)?papers(/.*)?": "papers",
    r"(tasks|(models|datasets)-tags-by-type)": "lists of tasks and tags",
    r"(partners|inference|inference-proxy|inference-endpoints)(/.*)?": "inference",
    r"collections/[^/]*/[^/]*/(resource-group|upvote)": "resource groups and upvotes",
    r"organizations/[^/]*/(resource-groups|audit-log|billing)(/.*)?": "resource groups, billing and audit logs",
    r"(notifications|settings/(watch|notifications|billing|mcp))(/.*)?": "notifications and billing",
    r"(posts|blog|trending|recent-activity|quicksearch|docs)(/.*)?": "posts, trends and full-text search",
    r"resolve-cache(/.*)?": "a cache of resolved files",
}
RUNNING = "Spaces that run, it only keeps their files"
OF_SPACES = {r"(hardware|templates|semantic-search|zero-gpu/quota)": RUNNING}
OF_REPO = {
    r"(like|likers)": "likes",
    r"duplicate": "copies of whole repos: `hf download` and `hf upload` make one",
    r"(leaderboard|eval-results)(/.*)?": "leaderboards",
    r"(parquet|croissant|sql-console|statistics)(/.*)?": "converted data",
    r"safetensors-metadata(/.*)?": "the summary of weights: clients read it from the files themselves",
    r"(runtime|secrets|variables|hardware|storage|sleeptime|pause|restart|dev-mode|logs|metrics|events|volumes)(/.*)?":
        RUNNING,
    r"(resource-group|jwt|scan|security|notebook|treesize|compare)(/.*)?": "resource groups, scans and comparisons",
    r"discussions/[^/]*/(pin|locked|reaction|rebase)": "pinned, locked or rebased discussions",
}  # fmt: skip
PAGES = {
    r".+/(info/refs|git-upload-pack|git-receive-pack|HEAD|info/lfs/locks(/.*)?)": CLONING,
    r"buckets/.*": "buckets",
    r"(oauth|login|join|settings|\.well-known)(/.*)?": "logins: its tokens are given with `serve-hub --token`",
    r"(uploads|papers|jobs|inference|v1)(/.*)?": "uploads of pictures, papers, jobs and inference",
}


def refuse(routes: Mapping[str, str], path: str) -> None:
    """Raise Refusal 501 for a path that huggingface.co answers and this Hub does not."""
    for route, what in routes.items():
        if re.fullmatch(route, path):
            raise Refusal(501, f"this Hub has no {what}")
