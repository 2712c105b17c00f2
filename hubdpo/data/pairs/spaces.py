"""All white space, as `str.strip` and `\\s` know it, and the bytes that it begins and ends with in UTF-8.

Who looks only at the first character, or the first byte, of many texts must know as much of it as the exact look has.
"""

from __future__ import annotations

import numpy as np

SPACES = tuple(chr(code) for code in range(0x3001) if chr(code).isspace())
MAY_BEGIN_SPACE, MAY_END_SPACE = (
    np.isin(np.arange(256), [space.encode()[edge] for space in SPACES]) for edge in (0, -1)
)
"""bool (256,): whether a byte of UTF-8 may be the first, or the last, of white space."""
