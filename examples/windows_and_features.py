"""Windows, features and a classifier of your own: the package as a library inside your analysis.

Takes an untrained network, which is a fair baseline to know: random convolutions already carry something.
Run it with ``python examples/windows_and_features.py [FOLDER]``.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eegm2 import EEGM2, EEGM2Config, RecordingStore, WindowConfig, WindowDataset, prepare


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "windows-and-features")
    prepare(Path(str(files("eegm2.data") / "bundled")), out / "store")
    store = RecordingStore(out / "store")
    windows = WindowDataset(store, WindowConfig(window_s=1.0), labelled=True)
    print(f"{len(windows)} windows of {windows.n_times} samples; classes {windows.classes}")

    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=len(store.ch_names), width=16)).eval()
    with torch.inference_mode():
        batches = torch.utils.data.DataLoader(windows, batch_size=32)
        features = np.concatenate([model.features(batch["x"]).numpy() for batch in batches])
    print(f"features {features.shape}: nine statistics of {model.config.representation_channels} channels")

    # Leave one recording out: windows of one recording are too much alike to be on both sides.
    scores = []
    for held_out in np.unique(windows.recording_ids):
        test = windows.recording_ids == held_out
        if len(np.unique(windows.labels[~test])) < 2:
            continue
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        classifier.fit(features[~test], windows.labels[~test])
        scores.append(balanced_accuracy_score(windows.labels[test], classifier.predict(features[test])))
        print(f"{held_out}: balanced accuracy {scores[-1]:.3f}")
    print(f"mean {np.mean(scores):.3f}, of one person's 98 seconds: not a finding")


if __name__ == "__main__":
    main()
