"""The page in a real headless browser: it renders, logs nothing and asks the network for nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = os.environ.get("CHROME_BIN") or next((path for path in map(shutil.which, NAMES) if path), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no headless browser: install chromium or google-chrome, or set CHROME_BIN"
)
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


class Visit(NamedTuple):
    """What a browser saw: the page after loading, console lines, hosts asked for."""

    dom: str
    console: list[str]
    hosts: set[str]


def visit(folder: Path, html: str, *more: str) -> Visit:
    """Open a page in a browser of its own profile."""
    page, log = folder / "page.html", folder / "net.json"
    page.write_text(html, encoding="utf-8")
    assert BROWSER is not None
    result = subprocess.run(
        [BROWSER, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
         f"--log-net-log={log}", *more, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=90, check=True,
    )  # fmt: skip
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    hosts = set()
    for event in json.loads(log.read_text())["events"]:
        url = str(event.get("params", {}).get("url", ""))
        if url.startswith(("http:", "https:", "ws:", "wss:")):
            hosts.add(url.split("/")[2])
    return Visit(result.stdout, console, hosts)


@pytest.fixture(scope="module")
def own_hosts(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Hosts that the browser asks for by itself, whatever the page."""
    return visit(tmp_path_factory.mktemp("blank"), "<!DOCTYPE html><title>blank</title>").hosts


def test_the_checks_see_errors_and_requests(tmp_path: Path, own_hosts: set[str]) -> None:
    bad = '<!DOCTYPE html><img src="http://127.0.0.1:9/x.png"><script>console.error("boom")</script>'
    seen = visit(tmp_path, bad)
    assert "127.0.0.1:9" in seen.hosts - own_hosts
    assert any("boom" in line for line in seen.console)


@pytest.mark.parametrize("width", [420, pytest.param(1200, marks=pytest.mark.slow)])
def test_report_renders_without_errors_or_requests(
    tmp_path: Path, own_hosts: set[str], full: str, width: int
) -> None:
    seen = visit(tmp_path, full, f"--window-size={width},900")
    assert seen.console == []
    assert seen.hosts <= own_hosts
    assert seen.dom.count("<svg ") == 20
    assert seen.dom.count("<section id=") == 13
    assert "best validation loss" in seen.dom
    assert seen.dom.rstrip().endswith("</html>")


def test_page_is_not_wider_than_a_phone(tmp_path: Path, full: str) -> None:
    """Wide figures and tables scroll within themselves; the page does not (a script added here measures)."""
    html = full.replace("default-src 'none'; style-src", "style-src")
    probe = (
        "<script>addEventListener('load', () => { document.body.dataset.excess = "
        "document.documentElement.scrollWidth - document.documentElement.clientWidth })</script></body>"
    )
    seen = visit(tmp_path, html.replace("</body>", probe), "--window-size=500,900")
    assert 'data-excess="0"' in seen.dom
