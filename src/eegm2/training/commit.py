"""The commit that results are of."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import eegm2


@functools.cache
def source_commit(digits: int = 40) -> str | None:
    """Return the commit of the git checkout that this package is in, None if it is in none.

    ``-dirty`` follows where files that git knows differ from it: no commit has then what made a result.

    Parameters
    ----------
    digits : int
        Of the hash; fewer than seven may be ambiguous.
    """
    root = Path(eegm2.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "--no-optional-locks", "-C", str(root)]
    try:
        done = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--exclude=*", f"--abbrev={digits}"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
