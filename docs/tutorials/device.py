# %% [markdown]
# # From a headset to a decision on a small device
#
# You have a headset and want a decision while the signal comes in, on a machine that will not run torch. Everything below runs
# as it is printed, without any hardware: files are played as if a headset sent them. In place of `--source FILE --speed 0` name
# yours: `--source lsl`, or `--source brainflow --board …`.
#
# The recordings that come with the package stand in for the headset. Of one person a file without any label is kept, to be
# recorded; fourteen others count as recorded before, with their labels. (Each file joins two minutes; here the cut is played
# through, as a headset would.)

# %%
from importlib.resources import files
from pathlib import Path

import mne

for name in ("headset", "recordings"):
    Path(name).mkdir()
for file in sorted(Path(str(files("eegm2.data") / "bundled")).glob("*.edf")):
    person = file.name.split("_")[0]
    raw = mne.io.read_raw_edf(file, preload=True, verbose="error")
    raw.rename_channels(lambda name: name.removeprefix("EEG "))
    states = [name for name in raw.annotations.description if name.startswith("eyes")]
    if person == "sub-049":
        raw.set_annotations(None)
        raw.export(f"headset/{person}.edf", verbose="error")
    elif person != "sub-004":
        raw.set_annotations(mne.Annotations([3.5, 65.0], [58.0, 58.0], states))
        raw.export(f"recordings/{person}.edf", verbose="error")

# %% [markdown]
# ## Record, with cues
#
# Each cue becomes a label of the recording. On the screen (not shown here) a line every two seconds says which channels are flat,
# clip or carry the mains.

# %% language="bash"
# eegm2 record --source headset/sub-049.edf --speed 0 --cue eyes_closed:58,eyes_open:58 --pause-s 3.5 --out new.edf

# %% [markdown]
# ## A head, fitted on what a stream gives
#
# The network is the one that ships with the package, for any electrodes, pretrained on others and frozen. The stored recordings
# are streamed at full speed through the filter, the baseline, the network and the windows of a live stream, so the scores
# printed are those that a stream of somebody new would have.

# %% language="bash"
# eegm2 prepare recordings --out store
# eegm2 head oscillations store --out head.safetensors --features state --scaling recording --calibration-s 3 --val 0.25

# %% [markdown]
# **Look at** the AUROC on the people left out, and at how many they are. Here nothing is taken relative to a recording's own mean,
# because a stream does not have it at the beginning; `--centre running` takes the mean of what came so far.

# %% [markdown]
# ## The stream
#
# The first three seconds are the baseline, from which the scale of this person on this device is measured and kept. Then a
# decision comes every half second.

# %% language="bash"
# eegm2 stream --source new.edf --speed 0 --model oscillations --head head.safetensors --calibration new.json --person new --out stream.jsonl

# %%
import json

stream = [json.loads(line) for line in Path("stream.jsonl").read_text().splitlines()]
stream = [line for line in stream if line["type"] == "decision"]
print(f"{len(stream)} decisions, the first at {stream[0]['time_s']:g} s")

# %% [markdown]
# ## The same on a small device
#
# One file holds filter, scaling, network, head and decision rule. The file beside it runs it with NumPy and ONNX Runtime alone:
# copy the two to the device.

# %% language="bash"
# eegm2 export oscillations --head head.safetensors --out device --source-hz 128

# %% [markdown]
# What follows would run on the device, where `x_uv` comes from its driver, 25 samples at a time in microvolts. It measures its own
# baseline, from the same three seconds.

# %%
import sys

from eegm2 import read_raw

sys.path.insert(0, "device")
import eegm2_runtime

x_uv = 1e6 * read_raw("new.edf").get_data()
decoder = eegm2_runtime.Decoder("device/bundle.onnx", calibration="device.json", person="new")
device = []
for start in range(0, x_uv.shape[1], 25):
    device += decoder.push(x_uv[:, start : start + 25])
device += decoder.flush()

# %% [markdown]
# The device decides what the stream decided, at the same times:

# %%
import numpy as np

assert [row["time_s"] for row in device] == [row["time_s"] for row in stream]
assert [row["decided"] for row in device] == [row["decided"] for row in stream]
streamed, decoded = (np.array([row["probabilities"] for row in rows]) for rows in (stream, device))
assert np.abs(streamed - decoded).max() < 1e-4
print(
    f"{len(device)} decisions, all equal; largest difference of a probability {np.abs(streamed - decoded).max():.0e}"
)

# %% [markdown]
# **Look at** how the probability lags a change by up to the length of a window, and at where it hovers: nothing new is decided
# between the two thresholds (`--enter`, `--leave`). The person here is one whose alpha rhythm is strong when the eyes are closed;
# how it goes with others is what the AUROC above says. (For the eye, slow drifts are filtered out of the signal drawn.)

# %%
from eegm2 import envelope, probability_over_time, spectrogram

duration_s = x_uv.shape[1] / 128
ends = np.array([row["time_s"] for row in device])
shown = ["AF3", "T7", "O1", "O2"]
drawn_uv = mne.filter.filter_data(x_uv, 128.0, 1.0, None, verbose="error")
probability_over_time(
    envelope(drawn_uv[[decoder.ch_names.index(name) for name in shown]]),
    shown,
    duration_s,
    np.stack([ends - 0.5, ends], axis=1),
    decoded,
    decoder.classes,
    labels=["eyes_closed" if 3.5 <= end <= 61.5 else "eyes_open" if 65 <= end <= 123 else "" for end in ends],
    spectrum=spectrogram(drawn_uv, 128.0),
)

# %% [markdown]
# ## What to do next
#
# - Record more people than minutes: a head of ten people does better on an eleventh than a head of two with an hour each.
# - `eegm2 stream --port 8000` shows the same live in a browser; `--calibration new.json` begins the next session without a baseline.
# - [`examples/decide_on_a_device.py`](../examples.md) reads samples as a serial port sends them, with lost ones, and
#   [Brain–computer interfaces](../start/bci.md) says what "equal" covers.
