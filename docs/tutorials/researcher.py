# %% [markdown]
# # From own files to a comparison with band power
#
# You have a folder of recordings and a question: does a pretrained network say more about my data than band power does?
# Everything below runs in about a minute on a laptop. The folder here holds the 16 recordings that come with the package,
# a minute with eyes open and a minute with eyes closed of each person ([who made them](../examples.md)); put your own in
# its place.

# %%
import shutil
from importlib.resources import files
from pathlib import Path

study = Path("my_study")
study.mkdir()
for file in sorted(Path(str(files("eegm2.data") / "bundled")).glob("*.edf")):
    shutil.copy(file, study)
print(*sorted(path.name for path in study.iterdir())[:3], "…")

# %% [markdown]
# ## Prepare, and look before you compute
#
# `prepare` reads every file once: band-pass, resampling, one order of channels, microvolts. What it cannot use it names, with
# the reason.

# %% language="bash"
# eegm2 prepare my_study --out store

# %% [markdown]
# Windows are cut when they are read, so their length is a choice of the analysis and not of the store. `scaling="recording"`
# divides all channels of a recording by one number: amplifiers differ, but which channels are large stays as it is.

# %%
from eegm2 import RecordingStore, WindowConfig, labelled_windows

store = RecordingStore("store")
windows = WindowConfig(window_s=4.0, stride_s=2.0, scaling="recording")
data = labelled_windows(store, windows, classes=("eyes_closed", "eyes_open"))
print(f"{len(data)} windows of {len(set(data.subject))} people, {' against '.join(data.classes)}")

# %% [markdown]
# Before any model: what differs between the classes? Power is averaged within each person first, then over people. **Look at**
# the alpha column of the last row: power at the back of the head falls when the eyes open, as it has since Berger. Had gamma at
# the rim of the head differed most, muscles would have been the better guess.

# %%
from eegm2 import band_power_by_class, band_power_maps

power_db, bands = band_power_by_class(data, store.sfreq_hz)
band_power_maps(store.ch_names, power_db, bands, data.classes)

# %% [markdown]
# ## The same splits for both
#
# `oscillations` ships with the package and was pretrained without labels on other people (`eegm2 models` lists whom). It stays
# frozen here: its state is taken for each window, and a linear model is fitted on it. Band power is treated the same way: same
# windows, same folds, same linear model, the penalty of both chosen on validation people, features of both relative to the
# mean of their recording.

# %%
from eegm2 import (
    baseline_runner,
    cross_validate,
    extract_features,
    linear_probe,
    load_checkpoint,
    subject_splits,
)

checkpoint = load_checkpoint("oscillations").on_montage(store.ch_names)
features = extract_features(checkpoint.model, data, kind="state")


def network(data, split, seed):
    return linear_probe(features, data, split, c="validation", centre="recording")


band_power = baseline_runner(
    "band_power", sfreq_hz=store.sfreq_hz, options={"c": "validation", "centre": "recording"}
)
splits = subject_splits(data, n_folds=8)
results = {
    "oscillations": cross_validate(network, data, splits),
    "band power": cross_validate(band_power, data, splits),
}
rows = [row for name, result in results.items() for row in result.rows(name) if row["metric"] == "auroc"]
for row in rows:
    print(f"{row['model']:13} AUROC {row['mean']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]")

# %% [markdown]
# The intervals are over people: windows of one person are no independent observations. Two overlapping intervals do not say
# that nothing differs, because both models were tested on the same people. The paired comparison does say something:

# %%
from eegm2 import compare

paired = compare(results["oscillations"].parts, results["band power"].parts, "auroc")
print(
    f"difference {paired.difference:+.3f} [{paired.ci_low:+.3f}, {paired.ci_high:+.3f}], p = {paired.p:.3f}"
)

# %% [markdown]
# **Look at** the people, not only at the mean. In some the alpha rhythm hardly changes, and no method finds what is not there.

# %%
from eegm2 import person_scores
from sklearn.metrics import roc_auc_score

scores = {
    name: {
        str(person): roc_auc_score(part.y[part.subject == person], part.score[part.subject == person, 1])
        for part in result.parts[0]
        for person in set(part.subject)
    }
    for name, result in results.items()
}
person_scores(scores, "AUROC of the person's windows", chance=0.5)

# %% [markdown]
# ## Keep a head, and predict a new recording
#
# A probe's folder is a model: it holds the network, what was learnt with labels, and whom it was learnt from. Four people test
# it here, and one of them is then predicted over time, as a new recording would be.

# %% language="bash"
# eegm2 probe oscillations store --out probe --protocols linear --features state --centre recording --scaling recording --stride-s 2 --classes eyes_closed,eyes_open --test 0.25

# %%
import json

task = json.loads(Path("probe/results.json").read_text())["task"]
person = task["parts"]["test"]["subjects"][0]
shutil.copy(next(study.glob(f"{person}_*.edf")), "new.edf")
print(f"{person} was not among the people that the head was fitted on")

# %% language="bash"
# eegm2 predict probe new.edf --out predictions --stride-s 2

# %% [markdown]
# **Look at** whether the probability follows the shading, which the model did not see, and whether what moves it is a rhythm in
# the spectrogram and not an artefact in the signal.

# %%
from eegm2 import prediction_figure

prediction_figure("predictions", "new")

# %% [markdown]
# ## What to do next
#
# - Put your own folder in place of `my_study`; `eegm2 prepare --table labels.csv` gives files labels where annotations do not.
# - `predictions/report.html` has the same figure, with maps of what the model reacts to and the quality of the recording.
# - `eegm2 compare oscillations band_power store --out comparison` does the comparison of this page in one command, and
#   `eegm2 evaluate` does it for many models, seeds and numbers of people with labels ([evaluating](../evaluating.md)).
# - Sixteen people are few: an interval this wide decides little. Say how many people a number rests on wherever you give one.
