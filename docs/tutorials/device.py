# %% [markdown]
# # From a headset to a decision on a small device
#
# You have a headset and want a decision while the signal comes in, on a machine that will not run torch. Everything below runs
# as it is printed, without any hardware: recordings that come with the package are played as if a headset sent them.
# In place of `--source FILE --speed 0` name yours: `--source lsl`, or `--source brainflow --board …`.

# %%
import shutil
from importlib.resources import files
from pathlib import Path

headset = sorted(Path(str(files("eegm2.data") / "bundled")).glob("*.edf"))
for number, file in enumerate(headset[:7], 1):
    shutil.copy(file, f"person{number}.edf")
Path("recordings").mkdir()
