"""Keep a model with everything needed to use it again, and read it back.

Run it with ``python examples/share_a_model.py [FOLDER]``. Nothing is uploaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from eegm2 import EEGM2, EEGM2Config


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "share-a-model")
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=14, width=8)).eval()
    # After pretraining, `eegm2 share RUN --out FOLDER` fills this in from the run.
    model.header = {
        "ch_names": ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"],
        "sfreq_hz": 128.0,
        "windows": {"window_s": 4.0, "scaling": "quantile95"},
    }
    folder = model.save_pretrained(out / "model")
    print((folder / "README.md").read_text())

    again = EEGM2.from_pretrained(folder)
    x = torch.randn(1, 14, 512)
    with torch.inference_mode():
        assert torch.equal(model(x), again(x))
    print(f"read back from {folder}: the same, to the bit; channels {' '.join(again.header['ch_names'])}")


if __name__ == "__main__":
    main()
