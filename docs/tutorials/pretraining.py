# %% [markdown]
# # Pretraining on several stores, objectives compared
#
# You have data of several devices and want to know which objective to spend your GPU hours on. This page goes the whole way in
# some minutes on a CPU: two stores with different electrodes, two objectives, one comparison with its controls.
#
# **What this can show, and what it cannot.** Twelve minutes of EEG and twelve epochs are no pretraining to speak of. The page
# proves that the pipeline holds together, and shows how a comparison must be built to mean something. Which objective is better
# for your data is answered by your data, in hours and not in minutes; [evidence](../evidence.md) has longer runs.

# %% [markdown]
# ## Two stores that share no electrode
#
# The recordings that come with the package stand in for two devices: of four people we keep the front of the head, of four others
# the back. Eight more are prepared with all electrodes; their labels judge, and no pretraining sees them.

# %%
import shutil
from importlib.resources import files
from pathlib import Path

recordings = sorted(Path(str(files("eegm2.data") / "bundled")).glob("*.edf"))
for name, own in {"front": recordings[:4], "back": recordings[4:8], "judges": recordings[8:]}.items():
    Path(name).mkdir()
    for file in own:
        shutil.copy(file, name)

# %% language="bash"
# eegm2 prepare front --out store_front --channels AF3,F7,F3,FC5,FC6,F4,F8,AF4
# eegm2 prepare back --out store_back --channels T7,P7,O1,O2,P8,T8
# eegm2 prepare judges --out store_judges

# %% [markdown]
# ## Two objectives, everything else alike
#
# The preset `covariance` has one set of weights for any electrodes, so one run takes both stores, a batch of one each. The
# oscillatory objective hides a part of a window and predicts what is there: the power of rhythms above the 1/f line, or the
# covariances between electrodes. The two runs differ in that and in nothing else: same data, split, seed and length.

# %% language="bash"
# eegm2 pretrain store_front store_back --out rhythms --preset covariance --objective oscillatory --tangent 0 --latent 0 --scaling recording --width 8 --window-s 4 --epochs 12 --batch-size 16 --val 0.25 --test 0 --seed 0
# eegm2 pretrain store_front store_back --out covariances --preset covariance --objective oscillatory --band-power 0 --latent 0 --scaling recording --width 8 --window-s 4 --epochs 12 --batch-size 16 --val 0.25 --test 0 --seed 0

# %% [markdown]
# **Look at** the validation loss (dashed): where it rises while the training loss falls, the run learns its people by heart, and
# more epochs make it worse. Losses of different objectives are in different units and say nothing about one another.

# %%
from eegm2 import training_figure

training_figure("rhythms")

# %%
training_figure("covariances")

# %% [markdown]
# ## The comparison, with its controls
#
# What a pretraining is worth shows on labels of people it has not seen, beside two controls: the same network with random
# weights, which says what the architecture gives without any learning, and band power, which says what needs no network.
# Same windows, same folds, same linear model, penalty chosen on validation people throughout.

# %%
plan = """
[data]
store = "store_judges"
classes = ["eyes_closed", "eyes_open"]
window_s = 4.0
stride_s = 2.0
scaling = "recording"

[splits]
n_folds = 4
val = 0.25

[[models]]
name = "band power"
baseline = "band_power"
options = {c = "validation", centre = "recording"}

[[compare]]
a = "rhythms"
b = "random weights"

[[compare]]
a = "rhythms"
b = "covariances"
"""
for name in ("rhythms", "covariances"):
    plan += f"""
[pretrain.{name}]
run = "{name}"
allow_mismatch = true

[[models]]
name = "{name}"
protocol = "linear"
pretrained = "{name}"
features = "state"
centre = "recording"
c = "validation"
"""
plan += """
[[models]]
name = "random weights"
protocol = "linear"
pretrained = "random"
preset = "covariance"
width = 8
features = "state"
centre = "recording"
c = "validation"
"""
Path("plan.toml").write_text(plan)

# %% language="bash"
# eegm2 evaluate plan.toml --out evaluation

# %% [markdown]
# **Look at** the control with random weights first. What lies above it was learnt; what lies within its interval was not shown
# to be. With eight people the intervals are wide: an experiment of this size can find a large effect and nothing else.

# %%
import json

from eegm2 import evaluation_scores

evaluation_scores(json.loads(Path("evaluation/results.json").read_text()), "auroc")

# %%
for row in json.loads(Path("evaluation/details.json").read_text())["comparisons"]:
    if row.get("metric") == "auroc":
        print(
            f"{row['a']} less {row['b']}: {row['difference']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}], "
            f"p = {row['p']:.3f}"
        )

# %% [markdown]
# As announced: neither pretraining lies above the control. The covariances that the preset computes by construction already tell
# the two states apart, and twelve minutes of EEG taught it nothing that helps. The model that ships saw 135 people;
# [the first tutorial](researcher.md) compares it with band power.

# %% [markdown]
# ## What to do next
#
# - More data before more epochs, more epochs before more width; a run goes on where it stopped, and `eegm2 pretrain --init rhythms`
#   goes on from its weights with other data or another objective.
# - Several seeds of the pretraining: a difference smaller than that between two seeds is none. `[pretrain.x]` in the plan takes
#   all options of the command and pretrains once per fold, on its training people alone ([evaluating](../evaluating.md)).
# - `eegm2 report rhythms --out report.html` shows data, losses and quality of a run in one page.
