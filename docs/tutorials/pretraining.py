# %% [markdown]
# # Pretraining on several stores, objectives compared
#
# You have data of several devices and want to know which objective to spend your GPU hours on. This page runs the whole way in
# a few minutes on a CPU: two stores with different electrodes, three objectives, one comparison with its controls.
#
# **What this can show, and what it cannot.** Eleven minutes of EEG and eight epochs are no pretraining to speak of. The page
# proves that the pipeline holds together, and how a comparison has to be built to mean something. Which objective is better
# on your data is answered by your data, in hours and not in minutes ([evidence](../evidence.md) has longer runs).

# %% [markdown]
# ## Two stores that share no electrode
#
# The recordings that come with the package stand in for two devices: of some people we keep the front of the head, of others the
# back and sides.

# %%
import shutil
from importlib.resources import files
from pathlib import Path

recordings = sorted(Path(str(files("eegm2.data") / "bundled")).glob("*.edf"))
for name, own in {"front": recordings[0:6], "back": recordings[6:11], "labelled": recordings[8:16]}.items():
    Path(name).mkdir()
    for file in own if name != "labelled" else recordings[11:16]:
        shutil.copy(file, name)
