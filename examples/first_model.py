"""From recordings to a result, in Python: prepare, pretrain, probe, report.

Uses the recordings that come with the package, 98 seconds of one person: the numbers show that the way works
and nothing else. Run it with ``python examples/first_model.py [FOLDER]``.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from eegm2 import PretrainConfig, ProbeConfig, prepare, pretrain, probe, write_report


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "first-model")
    recordings = Path(str(files("eegm2.data") / "bundled"))

    prepared = prepare(recordings, out / "store")
    print(f"prepared {prepared.counts}; channels {' '.join(prepared.preprocessing.channels)}")

    # One person: recordings, not subjects, are divided between training, validation and test.
    config = PretrainConfig(width=8, window_s=1.0, epochs=2, batch_size=8, by="recording", seed=3)
    pretrain(out / "store", out / "run", config)

    result = probe(
        out / "run", out / "store", out / "probe", ProbeConfig(by="recording", protocols=("linear",))
    )
    for row in result.results["summary"]:
        print(f"{row['protocol']:8} {row['metric']:18} {row['mean']}")

    write_report(out / "run", out / "report.html", store=out / "store")
    print(f"report in {out / 'report.html'}")


if __name__ == "__main__":
    main()
