"""Decisions from samples that come as text, one line a sample, as serial ports send them; without torch.

    eegm2 export RUN --head head.safetensors --out device --source-hz 250
    cat /dev/ttyUSB0 | python decide_on_a_device.py device

A line holds a number, in microvolts, for every channel that the bundle names, separated by commas. A line
that cannot be read counts as a lost sample. The first seconds are the baseline; with a third argument, a
file, it is measured once and kept.
"""

import json
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
from eegm2_runtime import Decoder  # noqa: E402

decoder = Decoder(folder / "bundle.onnx", calibration=sys.argv[2] if len(sys.argv) > 2 else "")
print(
    f"{', '.join(decoder.ch_names)} at {decoder.sfreq_hz:g} Hz; delays {decoder.facts['latency_ms']}",
    file=sys.stderr,
)

at_once = max(1, round(decoder.sfreq_hz / 16))
rows, missing, lost = [], 0, 0


def decide() -> None:
    for decision in decoder.push(np.array(rows).T, missing=missing):
        print(json.dumps(decision), flush=True)


for line in sys.stdin:
    try:
        row = [float(value) for value in line.split(",")]
        if len(row) != len(decoder.ch_names):
            raise ValueError(line)
    except ValueError:
        lost += 1
        continue
    if lost or len(rows) == at_once:  # what was lost lies before this sample
        if rows:
            decide()
        rows, missing, lost = [], lost, 0
    rows.append(row)
if rows:
    decide()
for decision in decoder.flush():
    print(json.dumps(decision), flush=True)
