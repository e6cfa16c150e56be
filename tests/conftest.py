"""For all tests: runs in this process do not compare the written model in a fresh one unless a test asks for it."""

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "reload_check: runs compare the written model in a fresh process")


@pytest.fixture(autouse=True)
def reload_check(request, monkeypatch):
    """`tests/export` compares; elsewhere each comparison would cost seconds of importing transformers."""
    if request.node.get_closest_marker("reload_check") is None:
        monkeypatch.setattr("archtool.run.hooks.VERIFIED_BYTES", 0)
