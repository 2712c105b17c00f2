"""Folders and files of a thing, in a folder or on a Hub: what they show, and that nothing outside is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from hubdpo.hub.snapshot import FolderSnapshot
from hubdpo.view import site
from hubdpo.view.page import Asked
from hubdpo.view.release import files, shown
from hubdpo.view.release.places import Places
from hubdpo.view.release.shown import LINES, LONGEST_LINE
from hubdpo.view.thing import Thing


@pytest.fixture
def thing(tmp_path: Path) -> Thing:
    folder = tmp_path / "thing"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "README.md").write_text("# A card\n\n[code](src/deep/a.py#L2) ![x](a.png) [src](src)\n", encoding="utf-8")
    (folder / "src" / "deep" / "a.py").write_text(
        "\n".join(f"line {n} <b>" for n in range(LINES + 3)), encoding="utf-8"
    )
    (folder / "run.bin").write_bytes(b"\0\1")
    (folder / "config.json").write_text(json.dumps({"r": 16, "a": [{"<b>": None}], "x": "y"}), encoding="utf-8")
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    (folder / "fake.png").write_text("<svg onload=alert(1)>", encoding="utf-8")
    save_file({"w": np.zeros((2, 3), np.float32), "b": np.zeros((3,), np.float16)}, folder / "w.safetensors")
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (folder / "link.txt").symlink_to(tmp_path / "secret")
    (folder / "src" / "inner.txt").symlink_to(folder / "config.json")
    return Thing(FolderSnapshot(folder, all_files=True), "thing")


def get(thing: Thing, address: str) -> tuple[int, dict[str, str], str]:
    path, _, query = address.partition("?")
    answer = site.answer(Asked.parse("", tuple(path.strip("/").split("/")), query), thing)
    return answer.status, answer.headers, b"".join(answer.parts(2**20)).decode("utf-8", "replace")


def test_a_folder_lists_folders_first_with_the_size_of_all_below(thing: Thing) -> None:
    status, _, text = get(thing, "/tree/main")
    assert status == 200 and text.index("src/</a>") < text.index("README.md</a>")
    size = sum(size for name, size in thing.snapshot.files.items() if name.startswith("src/"))
    assert f"{size:,} bytes" in text and "/blob/main/config.json" in text
    assert "deep/</a>" in get(thing, "/tree/main/src")[2]


def test_text_is_shown_by_lines_that_have_addresses(thing: Thing) -> None:
    _, _, text = get(thing, "/blob/main/src/deep/a.py")
    assert '<tr id="L10"><td class="number"><a href="#L10">10</a></td><td><code>line 9 &lt;b&gt;</code>' in text
    assert f'id="L{LINES + 1}"' not in text and "p=1" in text
    assert f'id="L{LINES + 1}"' in get(thing, "/blob/main/src/deep/a.py?p=1")[2]


def test_a_long_line_is_cut_and_says_so(thing: Thing) -> None:
    (thing.snapshot.path("x.txt") or Path()).write_text("a" * 100_000, encoding="utf-8")
    text = get(thing, "/blob/main/x.txt")[2]
    assert "a" * LONGEST_LINE + "… (100,000 characters)" in text and len(text) < 10_000


def test_json_is_laid_out_or_shown_as_text(thing: Thing) -> None:
    text = get(thing, "/blob/main/config.json")[2]
    assert "<dt>r</dt>" in text and "<dt>&lt;b&gt;</dt>" in text and "null" in text
    assert "<code>{&#34;r&#34;: 16" in get(thing, "/blob/main/config.json?plain=1")[2]


def test_weights_are_a_table_of_tensors(thing: Thing) -> None:
    text = get(thing, "/blob/main/w.safetensors")[2]
    assert "2 tensors, F16, F32." in text and "2 × 3" in text and ">24</td>" in text


def test_parquet_shows_rows_and_columns(dataset_dir: Path) -> None:
    data = Thing(FolderSnapshot(dataset_dir), "data")
    name = next(name for name in data.snapshot.files if name.endswith(".parquet") and "train" in name)
    text = get(data, f"/blob/main/{name}")[2]
    assert "37 rows" in text and ">chosen</td>" in text and "list&lt;" in text


@pytest.mark.parametrize("name", ["run.bin", "broken.safetensors", "broken.parquet"])
def test_what_cannot_be_read_is_said_to_be_binary(thing: Thing, name: str) -> None:
    (thing.snapshot.path(name) or Path()).write_bytes(b"\0\1broken\0")
    assert "can only be downloaded" in get(thing, f"/blob/main/{name}")[2]


def test_a_picture_is_one_by_its_bytes(thing: Thing) -> None:
    status, headers, _ = get(thing, "/image/main/a.png")
    assert (status, headers["Content-Type"]) == (200, "image/png") and "sandbox" in headers["Content-Security-Policy"]
    assert get(thing, "/image/main/fake.png")[0] == 415 and get(thing, "/image/main/README.md")[0] == 415


def test_a_download_is_saved_and_never_shown(thing: Thing) -> None:
    status, headers, text = get(thing, "/download/main/README.md")
    assert status == 200 and text.startswith("# A card") and headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"].startswith("attachment;") and headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("page", ["blob", "download", "image"])
@pytest.mark.parametrize("path", ["../secret", "..", "src/../../secret", "/etc/passwd", "link.txt", "nope", ""])
def test_nothing_outside_of_the_folder_is_read(thing: Thing, page: str, path: str) -> None:
    assert thing.snapshot.files  # `link.txt` is among them
    status, _, text = get(thing, f"/{page}/main/{path}")
    assert status in (403, 404) and "secret" not in text.replace("../secret", "")


def test_a_link_inside_of_the_folder_is_read(thing: Thing) -> None:
    assert get(thing, "/download/main/src/inner.txt")[0] == 200


def test_another_revision_is_not_shown(thing: Thing) -> None:
    assert get(thing, "/blob/v0.1.0/README.md")[0] == 404


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("src/deep/a.py#L2", "/blob/main/src/deep/a.py#L2"), ("./src", "/tree/main/src"), ("src/", "/tree/main/src"),
        ("README.md#A%20card", "/blob/main/README.md#card-a-card"), ("#a-card", "#card-a-card"),
        ("../x", None), ("a/../../x", None), ("javascript:x", None), ("JAVASCRIPT:x", None), ("java\tscript:x", None),
        ("https://a.example/?b=1", "https://a.example/?b=1"), ("//evil.example", None), ("\\\\evil.example", None),
        ("/etc/passwd", None), ("file:///etc/passwd", None), ("mailto:a@b.example", "mailto:a@b.example"),
        ("http://[", "http://["), ("x[y", "/blob/main/x%5By"), ("", "/tree/main"),
    ],
)  # fmt: skip
def test_links_of_a_card_stay_inside_or_are_plain(thing: Thing, target: str, address: str | None) -> None:
    assert Places(Asked(""), thing).link(target) == address


def test_links_of_a_text_in_a_folder_begin_there(thing: Thing) -> None:
    places = Places(Asked("/me/x"), thing, "src/deep")
    assert places.link("a.py") == "/me/x/blob/main/src/deep/a.py" and places.link("../../README.md#b") is not None
    assert places.picture("../../a.png") == "/me/x/image/main/a.png"
    assert places.picture("../../fake.svg") is None and places.picture("https://e.example/a.png") is None


def test_the_card_of_a_folder_shows_its_picture(thing: Thing) -> None:
    text = get(thing, "/card")[2]
    assert '<img src="/image/main/a.png" alt="x">' in text and 'href="/blob/main/src/deep/a.py#L2"' in text


def test_a_file_is_no_folder(thing: Thing) -> None:
    status, _, text = get(thing, "/tree/main/README.md")
    assert status == 404 and "is a file" in text


def test_a_picture_that_is_too_large_is_not_read(thing: Thing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_PICTURE", 10)
    assert get(thing, "/image/main/a.png")[0] == 413


@pytest.mark.parametrize(("name", "content"), [("bad.json", "{"), ("long.json", "[" + "1," * 4000 + "1]")])
def test_json_that_is_broken_or_long_is_text(thing: Thing, name: str, content: str) -> None:
    (thing.snapshot.path(name) or Path()).write_text(content, encoding="utf-8")
    assert '<tr id="L1">' in get(thing, f"/blob/main/{name}")[2]


def test_of_a_large_text_the_beginning_is_shown(thing: Thing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "MOST_BYTES", 100)
    text = get(thing, "/blob/main/src/deep/a.py")[2]
    assert "The first 100 bytes are shown" in text and "line 12" not in text
