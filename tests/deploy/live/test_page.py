"""The web page in a real headless browser: Playwright with a Chromium from PATH or EEGM2_TEST_BROWSER."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from eegm2.deploy.live.outputs import Outputs
from eegm2.deploy.live.web import WebPage

pytestmark = pytest.mark.slow


def test_the_page_draws_and_shows_probabilities() -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    browser_path = os.environ.get("EEGM2_TEST_BROWSER") or shutil.which("chromium") or shutil.which("chrome")
    if browser_path is None:
        pytest.skip("no Chromium found; name one in EEGM2_TEST_BROWSER")
    facts = {"source": "test", "ch_names": ["Fz", "Cz"], "sfreq_hz": 128.0, "classes": ["rest", "task"]}
    page = WebPage("127.0.0.1", 0, "secret", facts)
    problems: list[str] = []
    try:
        with playwright.sync_playwright() as p:
            browser = p.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
            tab = browser.new_context(bypass_csp=True).new_page()
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.on("console", lambda message: problems.append(message.text))
            tab.goto(page.url)
            decision = {"time_s": 1.0, "sample": 8, "probabilities": [0.25, 0.75], "decided": "task"}
            x = np.sin(np.arange(64) / 5)[None].repeat(2, axis=0)
            for _ in range(100):
                page.push(Outputs(1.0, x, 0.5 * x, np.zeros((4, 8)), [decision]), {})
                if tab.inner_text("#state") == "live":
                    break
                tab.wait_for_timeout(50)
            assert tab.inner_text("#state") == "live"
            assert tab.inner_text("#bars").split() == ["rest", "0.25", "task", "0.75"]
            assert tab.inner_text("#bars .decided") == "task"
            drawn = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0)"
            tab.wait_for_timeout(200)
            assert tab.eval_on_selector("#plot", drawn)
            browser.close()
    finally:
        page.close()
    assert problems == []
