"""What a release is made of: hooks that fetch nothing, scripts that parse, a wheel with all it needs."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import eegm2

ROOT = Path(__file__).parents[1]


def test_hooks_are_local() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (\S+)", text) == ["local"]
    assert set(re.findall(r"language: (\S+)", text)) == {"system"}
    assert "http" not in text


@pytest.mark.parametrize("name", ["run", "smoke", "audit"])
def test_scripts_parse(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / name)], check=True)


def test_the_audit_says_when_it_is_skipped(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    command = ["bash", str(ROOT / ".ci" / "audit")]
    done = subprocess.run(
        command, env={"PYTHON": str(python), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout.startswith("audit SKIPPED, nothing was checked: pip-audit is not installed")


@pytest.mark.parametrize(
    ("rows", "status", "message"),
    [
        (
            '{"name": "a", "version": "1", "vulns": []}',
            0,
            "1 of 1 packages looked up with pypi, 0 advisories",
        ),
        ('{"name": "a", "version": "1", "vulns": [{"id": "X-1"}]}', 1, "a 1: X-1"),
        ('{"name": "a", "skip_reason": "not found"}', 2, "SKIPPED with osv, nothing was checked: none of 1"),
        ("not JSON", 2, "SKIPPED with pypi, nothing was checked: the advisories cannot be had"),
    ],
)
def test_the_audit_counts_what_was_looked_up(rows: str, status: int, message: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n*--version*) exit 0 ;;\n*pip_audit*)\n'
        'for word in "$@"; do\n[ "$before" = --output ] && echo \'{"dependencies": ['
        f"{rows}"
        ']}\' > "$word"\nbefore=$word\ndone\nexit 1 ;;\n'
        f'*) exec {sys.executable} "$@" ;;\nesac\n'
    )
    python.chmod(0o755)
    environment = {"PYTHON": str(python), "PATH": "/usr/bin:/bin"}
    command = ["bash", str(ROOT / ".ci" / "audit")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert message in done.stdout
    assert done.returncode == status


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_has_what_it_needs(tmp_path: Path) -> None:
    pytest.importorskip(
        "hatchling", reason="hatchling is not installed; .ci/smoke builds in an environment of its own"
    )
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for needed in ("eegm2/py.typed", "eegm2/report/template.html.j2", "eegm2/data/bundled/ATTRIBUTION.md"):
        assert needed in names
    assert sum(name.endswith(".edf") for name in names) == 3
    assert all(name.startswith(("eegm2/", "eegm2-")) for name in names)


def test_the_changelog_has_this_version_below_what_is_unreleased() -> None:
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", head) for head in heads[1:]), heads
    assert heads[1].split(" - ")[0] == eegm2.__version__


def test_the_counts_of_the_long_suites_are_those_of_the_stored_results() -> None:
    from tests.reliability import RESULTS, readme, stored, summary, table

    results, corpus = stored()
    assert (RESULTS / "reliability.md").read_text() == table(results, corpus)
    page = (ROOT / "README.md").read_text()
    assert summary(results, corpus) in page
    assert readme(page, summary(results, corpus)) == page
    assert all(result["failures"] == [] for result in results.values())
