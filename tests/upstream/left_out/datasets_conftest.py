"""Configuration of datasets' tests, which its source archive leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

pytest_plugins = ["tests.fixtures.hub"]


@pytest.fixture
def csv_path(tmp_path: Path) -> Path:
    path = tmp_path / "dataset.csv"
    path.write_text("col_1,col_2,col_3\n0,0,0.0\n1,1,1.0\n2,2,2.0\n", "utf-8")
    return path


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_text("a line\n", "utf-8")
    return path


@pytest.fixture(scope="session", autouse=True)
def test_files() -> None:
    folder = Path(__file__).parent / "features" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((64, 48), 50).convert("RGB").save(folder / "test_image_rgb.jpg")
