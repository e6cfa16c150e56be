"""The page in a real browser: no error in its console, no request, and the numbers it should show."""

import json
import shutil
import subprocess

import pytest
import report_samples as samples
from report_html import Page, check_numbers

from archtool.report import to_dict, write_report

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=2000",
]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="chromium is not on PATH")


def visit(page, folder):
    """The DOM, the console's lines and the requests of the page (not those of the browser for itself)."""
    log = folder / "net.json"
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    started = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return done.stdout, console, [params["url"] for params in started if of_page(params)]


def of_page(params):
    """Whether a network event is a request that a document made, as the browser's own have no origin."""
    if "url" not in params or "initiator" not in params:
        return False
    return params["initiator"] != "not an origin" or "file://" in params.get("network_isolation_key", "")


@needs_browser
@pytest.mark.parametrize("make", [samples.realistic, samples.hostile])
def test_page_in_chromium(make, tmp_path):
    report = make()
    page = write_report(report, tmp_path / "run")
    dom, console, urls = visit(page, tmp_path)
    assert console == []
    assert urls == []
    shown = Page(dom)
    check_numbers(shown, to_dict(report), 10)
    stored = json.loads((page.parent / "metrics.json").read_text())
    check_numbers(shown, stored, 10)
    assert json.loads("".join(shown.scripts)) == stored


@needs_browser
def test_the_check_sees_errors_and_requests(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text("<!DOCTYPE html><script>console.error('oops')</script><img src='http://127.0.0.1:9/x.png' alt=''>")
    _, console, urls = visit(bad, tmp_path)
    assert any("oops" in line for line in console)
    assert any("127.0.0.1:9" in url for url in urls)
