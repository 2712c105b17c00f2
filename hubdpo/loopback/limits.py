"""What one client may take of the server: looked at before anything that it sends is kept."""

from __future__ import annotations

import resource

LONGEST_LINE, MOST_HEADERS, LARGEST_HEAD = 16 * 2**10, 100, 64 * 2**10
"""Most bytes of the line of a request, of a header and of a chunk's size; most headers; most bytes of all of them."""
STRANGER_BODY = 256 * 2**10
"""Most bytes of the body of who shows no right to write."""
LARGEST_JSON, DEEPEST_JSON = 4 * 2**20, 32
"""Most bytes of a JSON body that carries no file, and most levels in it."""
LARGEST_LINE_OF_COMMIT, MOST_OPERATIONS = 14 * 2**20, 100_000
MOST_NAMED, MOST_RULES, LONGEST_RULE = 1000, 1000, 256
"""Most files that one question names, most rules of .gitattributes or .gitignore, and most characters of one."""
LARGEST_FILE, KEPT_FREE = 500 * 10**9, 64 * 2**20
"""Most bytes of a large file, as on the public Hub, and how many of the disk stay free of them."""

MOST_CONNECTIONS = 200
IDLE_S, HEAD_S, STRANGER_S, PAUSE_S, LINGER_S, ROOM_S = 120.0, 20.0, 30.0, 60.0, 2.0, 0.5
"""Seconds to wait for the next request, for all of its head, for all of the body of a stranger, between two pieces of
a longer body or of an answer, for a client that is refused to stop sending, and for room before a client is refused."""


def most_connections() -> int:
    """Return how many connections are served at a time: each may need some files more."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(4, min(MOST_CONNECTIONS, files // 4))
