"""``eegm2 verify``: whether a store's recordings are as they were written."""

from __future__ import annotations

from typing import Annotated

import typer

from eegm2.errors import DataError


def verify(store: Annotated[str, typer.Argument(help="Store: folder or fsspec URL.")]) -> None:
    """Read every recording of a store and compare its checksum; damaged ones are named.

    The other recordings stay usable. Run eegm2 prepare again to replace the damaged ones.
    """
    from eegm2.data.store.recording_store import RecordingStore

    opened = RecordingStore(store)
    n_recordings = len(opened) + len(opened.damaged)
    problems = opened.verify()
    if problems:
        listed = "; ".join(f"{name}: {reason}" for name, reason in sorted(problems.items()))
        raise DataError(f"{store}: {len(problems)} of {n_recordings} recordings are damaged: {listed}")
    typer.echo(f"{n_recordings} recordings are whole ({opened.manifest_sha256[:16]}…)")
