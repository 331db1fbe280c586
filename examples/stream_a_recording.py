"""Stream a recording in pushes of odd sizes and compare with the offline network.

Run it with ``python examples/stream_a_recording.py [FOLDER]``.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from eegm2 import EEGM2, EEGM2Config, RecordingStore, StreamingEEGM2, prepare, scale_window


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "stream-a-recording")
    prepare(Path(str(files("eegm2.data") / "bundled")), out / "store")
    store = RecordingStore(out / "store")
    recording = store.recordings[0]
    x = torch.from_numpy(scale_window(store.read(recording.id), "quantile95"))[None]

    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=x.shape[1], width=8)).eval()
    stream = StreamingEEGM2(model)
    print(f"{recording.id}: {x.shape[-1]} samples, latency {1000 * stream.latency_s(store.sfreq_hz):.0f} ms")

    generator = np.random.default_rng(0)
    parts, at = [], 0
    while at < x.shape[-1]:
        step = int(generator.integers(1, 65))
        parts.append(stream.push(x[..., at : at + step]))
        at += step
    parts.append(stream.flush())

    with torch.inference_mode():
        difference = (torch.cat(parts, dim=-1) - model(x)).abs().max().item()
    print(f"largest difference from the offline network {difference:.1e}")
    if difference > 1e-4:
        raise SystemExit("the stream differs from the offline network")


if __name__ == "__main__":
    main()
