"""One page of everything, rendered once."""

from __future__ import annotations

import pytest

from eegm2.report.html import render_report

from .synthetic import report_data


@pytest.fixture(scope="session")
def full() -> str:
    """A report in which nothing is missing."""
    return render_report(report_data())
