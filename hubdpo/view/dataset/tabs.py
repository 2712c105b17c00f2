"""The tabs of a dataset."""

from __future__ import annotations

from hubdpo.view.page import Tab

TABS: tuple[Tab, ...] = ()
