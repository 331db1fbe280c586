"""Stream EEG through an exported file with NumPy and ONNX Runtime alone: no torch, no eegm2.

    eegm2 export RUN --out exported
    python onnx_stream.py exported/step.onnx signal.npy

`signal.npy` is (n_chans, n_times), scaled as the file's "units" say. Reading the states from the file keeps
this program independent of the model: it is all that a small device needs.
"""

import json
import sys

import numpy as np
import onnxruntime as ort

path, source = sys.argv[1:3]
session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
facts = json.loads(session.get_modelmeta().custom_metadata_map["eegm2"])
print(f"{facts['preset']}: {', '.join(facts['ch_names'])} at {facts['sfreq_hz']:g} Hz; {facts['units']}")
print(f"an output may come {facts['latency_s'] * 1000:.0f} ms after its sample")

hop = facts["hop"]
state = {name: np.zeros((1, *shape), np.float32) for name, shape in facts["states"].items()}
names = [output.name for output in session.get_outputs()]
signal = np.load(source, allow_pickle=False).astype(np.float32)
n_times = signal.shape[1]

# The last outputs need samples that never come: push whole steps of zeros and say where the signal ends.
after = max(facts["delay_samples"], 8 * (facts["delay_steps"] + 1))
steps = -(-(n_times + after) // hop)
padded = np.pad(signal, ((0, 0), (0, steps * hop - n_times)))

collected = []
for position in range(0, steps * hop, hop):
    feed = {
        "x": padded[None, :, position : position + hop],
        "position": np.array(position),
        "end": np.array(n_times),
        **{f"state.{name}": value for name, value in state.items()},
    }
    results = dict(zip(names, session.run(None, feed)))
    state = {name: results[f"next.{name}"] for name in state}
    collected.append(results["representation"])

# Steps of the representation come a fixed number late; each stands for 8 samples.
delay = facts["delay_steps"]
representation = np.concatenate(collected, axis=2)[:, :, delay : delay + n_times // 8]
print("representation:", representation.shape, "mean", representation.mean())
