"""The page in a real browser: no error in its console, no request, and the numbers it should show."""

import functools
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
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=2000",
]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="chromium is not on PATH")


def visit(page, folder):
    """The DOM, the console's lines and the URLs that the browser asked for."""
    log = folder / "net.json"
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=90, check=True
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    events = json.loads(log.read_text())["events"]
    urls = {event["params"]["url"] for event in events if "url" in event.get("params", {})}
    return done.stdout, console, urls


@functools.cache
def own_requests(folder):
    """What this browser asks for by itself while it shows an empty page."""
    empty = folder / "empty.html"
    empty.write_text("<!DOCTYPE html><html lang='en'><title>empty</title></html>")
    return visit(empty, folder)[2]


@needs_browser
@pytest.mark.parametrize("make", [samples.realistic, samples.hostile])
def test_page_in_chromium(make, tmp_path):
    report = make()
    page = write_report(report, tmp_path / "run")
    dom, console, urls = visit(page, tmp_path)
    assert console == []
    asked = {url for url in urls if not url.startswith(("file:", "data:", "chrome:", "about:"))}
    assert asked <= own_requests(tmp_path), "the page asked for something"
    shown = Page(dom)
    check_numbers(shown, to_dict(report), 10)
    stored = json.loads((page.parent / "metrics.json").read_text())
    check_numbers(shown, stored, 10)
    assert json.loads("".join(shown.scripts)) == stored


@needs_browser
def test_the_check_sees_errors_and_requests(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><script>console.error('oops')</script><img src='http://127.0.0.1:9/x.png' alt=''>"
    )
    _, console, urls = visit(bad, tmp_path)
    assert any("oops" in line for line in console)
    assert any("127.0.0.1:9" in url for url in urls)
