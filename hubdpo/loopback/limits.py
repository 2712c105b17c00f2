"""Limits on what a client may send, checked before anything is stored."""

from __future__ import annotations

import resource

LONGEST_LINE, MOST_HEADERS, LARGEST_HEAD = 16 * 2**10, 100, 64 * 2**10
"""Longest request line, header line or chunk-size line in bytes; most headers; most bytes of all headers."""
STRANGER_BODY = 256 * 2**10
"""Largest body, in bytes, of a request without a write token."""
LARGEST_JSON, DEEPEST_JSON = 4 * 2**20, 32
"""Largest JSON body without files, in bytes, and its deepest nesting."""
LARGEST_LINE_OF_COMMIT, MOST_OPERATIONS = 14 * 2**20, 100_000
"""Longest line of a commit request in bytes (one operation), and most lines."""
MOST_NAMED, MOST_RULES, LONGEST_RULE = 1000, 1000, 256
"""Most files in a request, most rules in .gitattributes or .gitignore, and longest rule in characters."""
LARGEST_FILE, KEPT_FREE = 500 * 10**9, 64 * 2**20
"""Largest LFS or Xet file in bytes, as on huggingface.co, and disk space in bytes that such files leave free."""

MOST_CONNECTIONS = 200
IDLE_S, HEAD_S, STRANGER_S, PAUSE_S, LINGER_S, ROOM_S = 120.0, 20.0, 30.0, 60.0, 2.0, 0.5
"""Time-outs in seconds: for the next request on a connection; for a whole head; for a whole body without a write token;
between two reads or writes otherwise; for a refused client to stop sending; for a free connection before a 503."""


def most_connections() -> int:
    """Return the number of connections to serve at a time; each may need several file descriptors."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(4, min(MOST_CONNECTIONS, files // 4))
