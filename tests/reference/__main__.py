"""Write the generated pages of docs/reference: `python -m tests.reference`."""

from __future__ import annotations

from tests.reference.pages import REFERENCE, pages

if __name__ == "__main__":
    for name, text in pages().items():
        path = REFERENCE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
