import sys
from pathlib import Path

import pytest

from archtool import registry

FAKE = Path(__file__).resolve().parents[1] / "fake_plugin"


def _forget():
    registry.entries.cache_clear()
    registry.duplicates.cache_clear()


@pytest.fixture(autouse=True)
def fake_plugin(monkeypatch):
    """The text-file plugin is installed during the test."""
    monkeypatch.syspath_prepend(str(FAKE))
    _forget()
    yield
    _forget()
    sys.modules.pop("archtool_fake", None)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.txt"
    path.write_text("parent")
    return path
