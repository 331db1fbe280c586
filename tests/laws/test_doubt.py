"""Laws of doubt: which windows and recordings a prediction is not to be trusted of, each by its own limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegm2.data.config import WindowConfig
from eegm2.deploy.predict.classifier import Classifier
from eegm2.deploy.predict.config import PredictConfig
from eegm2.deploy.predict.flags import recording_warnings, window_flags
from eegm2.deploy.predict.recording import _beyond_what_was_learnt
from eegm2.deploy.predict.run import _mark, _model
from eegm2.deploy.predict.tables import recording_table, window_table
from eegm2.evaluation.probing.keep import usual_distance
from eegm2.report.document import Section
from eegm2.report.predictions import _class_table, _quality, _summary, _value_table

NAMES = ("Fz", "Cz", "Pz")


def classifier(classes: tuple[str, ...] = ("a", "b"), **facts: Any) -> Classifier:
    checkpoint: Any = SimpleNamespace(windows=WindowConfig(window_s=4.0))
    return Classifier(checkpoint, classes, facts, None, None, "linear", "sha")


def test_a_channel_is_flat_or_has_an_artefact_by_its_own_samples() -> None:
    """Flat below 0.05 µV; an artefact beyond 15 typical amplitudes from the middle, either way."""
    x = 30 + 10 * np.random.default_rng(0).standard_normal((6, 3, 256)).astype(np.float32)
    x[1, 0] = 30 + 0.04 * (-1.0) ** np.arange(256)
    x[2, 1] = 30 + 0.06 * (-1.0) ** np.arange(256)
    for window, channel, peak in ((3, 2, 160.0), (4, 0, 140.0), (5, 0, -160.0), (5, 1, 160.0)):
        x[window, channel, 100] = np.median(x[window, channel]) + peak
    found = window_flags(x, 10.0, None, classifier(), NAMES)
    assert found == [[], ["flat:Fz"], [], ["artefact:Pz"], [], ["artefact:Fz+Cz"]]
    assert window_flags(x[3:], 11.0, None, classifier(), NAMES) == [[], [], []]
    assert window_flags(x[:1] * 0, 0.0, None, classifier(), NAMES) == [["flat:Fz+Cz+Pz"]]


def test_unusual_is_half_as_far_again_as_99_of_100_windows_that_were_learnt_from() -> None:
    """By the features that moved then; nothing is said of features of another number."""
    usual = {"centre": [1.0, -2.0, 9.0], "spread": [1.0, 2.0, 0.0], "limit": 1.0}
    own = classifier(range={"unusual": usual})
    x = np.random.default_rng(0).standard_normal((4, 3, 64)).astype(np.float32)
    z = np.array([[2.0, 1.7, 50.0], [2.0, 1.6, 0.0], [0.0, -2.6, 0.0], [0.0, 2.59, 9.0]])
    features = z * [1, 2, 1] + [1, -2, 0]
    expected = [["unusual"], [], ["unusual"], []]  # 1.5² · 3 = 6.75
    assert window_flags(x, 1.0, features, own, NAMES) == expected
    assert window_flags(x, 1.0, features[:, :2], own, NAMES) == [[]] * 4
    learnt = np.random.default_rng(1).standard_normal((400, 5)) * [1, 9, 1, 1, 0] + 4
    kept = classifier(range={"unusual": usual_distance(learnt)})
    direction = np.array([1.0, 1.0, -1.0, 1.0, 0.0])
    step = usual_distance(learnt)["limit"] * np.sqrt(5 / 4)
    for times, far in ((1.4, []), (1.6, ["unusual"])):
        row = np.median(learnt, 0) + times * step * direction * learnt.std(0)
        assert window_flags(x[:1], 1.0, row[None], kept, NAMES) == [far]


INFO: dict[str, Any] = {"quality": {}, "sfreq_hz": 128.0, "ch_names": NAMES, "subject": "new"}


@pytest.mark.parametrize(
    ("info", "typical_uv", "common", "facts", "words"),
    [
        ({}, 20.0, 0.5, {}, None),
        ({}, 3.2, 0.5, {"typical_uv": [10.0, 30.0]}, "amplitude: typically 3.2 µV, learnt from 10 to 30 µV"),
        ({}, 3.4, 0.5, {"typical_uv": [10.0, 30.0]}, None),
        ({}, 89.0, 0.5, {"typical_uv": [10.0, 30.0]}, None),
        ({}, 91.0, 0.5, {"typical_uv": [10.0, 30.0]}, "amplitude: typically 91 µV"),
        ({"quality": {"source_sfreq_hz": 125.0}}, 20.0, 0.5, {}, "rate: recorded at 125 Hz, below the model"),
        ({"quality": {"source_sfreq_hz": 127.5}}, 20.0, 0.5, {}, None),
        ({"quality": {"source_sfreq_hz": 129.0}}, 20.0, 0.5, {}, None),
        ({"quality": {"source_sfreq_hz": 250.0}}, 20.0, 0.5, {}, "rate: resampled from 250 to 128 Hz"),
        ({}, 20.0, 0.01, {"common_share": 0.3}, "reference: the average of the channels here, a single ref"),
        ({}, 20.0, 0.3, {"common_share": 0.01}, "reference: a single reference here, the average of"),
        ({}, 20.0, 0.01, {"common_share": 0.015}, None),
        ({}, 20.0, 0.5, {"common_share": 0.03}, None),
    ],
)  # fmt: skip
def test_what_is_out_of_the_range_learnt_from_is_said_with_its_numbers(
    info: Any, typical_uv: float, common: float, facts: Any, words: str | None
) -> None:
    where: Any = SimpleNamespace(**{**INFO, **info})
    found = recording_warnings(where, typical_uv, common, classifier(range=facts), ())
    assert len(found) == bool(words)
    if words:
        assert found[0].startswith(words)


def test_of_whom_and_with_which_electrodes_it_was_learnt_is_compared() -> None:
    info: Any = SimpleNamespace(**INFO)
    people = {"train": ["new", "p"], "test": ["q"]}
    learnt = {"people": people, "store_sha256": "x", "ch_names": ["A", "B", "Cz", "D"]}
    electrodes, subject = recording_warnings(info, 1.0, 0.5, classifier(**learnt), ())
    assert electrodes == "electrodes: 3 others than the 4 learnt from"
    assert subject == "subject: somebody named new was among those the head was learnt from"
    tested = {**learnt, "people": {"train": ["p"], "test": ["new"]}, "ch_names": list(NAMES)}
    assert recording_warnings(info, 1.0, 0.5, classifier(**tested), ("note",)) == [
        "prepared otherwise than the model's data: note"
    ]


@pytest.mark.parametrize(("value", "said"), [(20.0, False), (60.0, False), (19.9, True), (60.1, True)])
def test_a_value_beyond_those_learnt_from_is_doubted(value: float, said: bool) -> None:
    found = _beyond_what_was_learnt(classifier((), range={"target": [20.0, 60.0]}), {"value": value})
    assert found == ([f"value: {value:g}, the head was learnt on 20 to 60"] if said else [])
    assert _beyond_what_was_learnt(classifier(()), {"value": value}) == []


def recording(number: int, **answer: Any) -> dict[str, Any]:
    """Return facts of a recording that are nobody else's."""
    quality = {
        "typical_uv": 10.0 + number, "line_noise_ratio": 2.0 + number, "clipped_share": 0.013 * number,
        "flat_channels": ["Fz"], "noisy_channels": ["Pz"] * (number == 2),
    }  # fmt: skip
    windows = [
        {"start_s": 2.0 * i, "stop_s": 2.0 * i + 2, "label": "", "flags": flags, **answer}
        for i, flags in enumerate([["flat:Fz", "unusual"], [], ["artefact:Cz", "flat:Fz"]])
    ]
    return {
        "recording": f"r{number}", "subject": f"s{number}", "session": f"x{number}", "source": f"f{number}",
        "duration_s": 60.0 * number, "n_windows": 10 * number, "n_flagged": number, "quality": quality,
        "warnings": ["one", "two"], "windows": windows, "shares": {"a": 0.25, "b": 0.75}, **answer,
    }  # fmt: skip


MODEL: dict[str, Any] = {
    "classes": ["a", "b"], "head": "light", "window_s": 3.0, "n_people_learnt_from": 7,
    "facts": {"test": {"balanced_accuracy": 0.75, "auroc": 0.5}},
}  # fmt: skip
ANSWER = {"probabilities": [0.3, 0.7], "decision": "b"}


def test_a_table_and_a_page_say_the_same_of_a_recording() -> None:
    found = [recording(1, **ANSWER), recording(2, **ANSWER)]
    row = recording_table(found, MODEL)[1]
    assert row == {
        "recording": "r2", "subject": "s2", "session": "x2", "source": "f2", "duration_s": 120.0,
        "decision": "b", "p_a": 0.3, "p_b": 0.7, "share_a": 0.25, "share_b": 0.75, "n_windows": 20,
        "n_flagged": 2, "typical_uv": 12.0, "line_noise_ratio": 4.0, "clipped_share": 0.026,
        "bad_channels": "Fz Pz", "warnings": "one; two",
    }  # fmt: skip
    window = window_table(found, MODEL)[4]
    assert (window["recording"], window["start_s"], window["stop_s"]) == ("r2", 2.0, 4.0)
    assert window_table(found, MODEL)[3]["flags"] == "flat:Fz unusual"
    document = {"recordings": found, "model": MODEL, "skipped": {"r9": "short"}}
    table = next(block for block in _quality(document).blocks if block.kind == "table")
    flags = "artefact flat unusual"
    assert dict(zip(table.head, table.rows[1], strict=True)) == {
        "recording": "r2", "typical µV": "12.0", "bad channels": "Fz Pz", "mains ratio": "4.0",
        "clipped": "2.60 %", "flags of windows": flags, "notes": "one; two",
    }  # fmt: skip
    summary = _summary(document)
    tiles = next(block.rows for block in summary.blocks if block.kind == "tiles")
    assert tiles == (
        ("2", "recordings"), ("3.0 min", "of EEG"), ("30", "windows of 3 s"), ("10%", "of them flagged"),
        ("1", "recordings skipped"),
    )  # fmt: skip
    text = next(block.text for block in summary.blocks if block.kind == "text")
    assert text == (
        "The head 'light' tells a from b; it learnt from 7 subjects, and on people it had not seen had "
        "balanced accuracy 0.750, auroc 0.500 per window."
    )
    section = Section("s", "S", look="A.", then="B.")
    _class_table(section, found, ["a", "b"])
    table = section.blocks[-1]
    assert dict(zip(table.head, table.rows[1], strict=True)) == {
        "recording": "r2", "decided as a whole": "b", "mean p(a)": "0.300", "mean p(b)": "0.700",
        "windows a": "25%", "windows b": "75%", "flagged": "2 of 20",
    }  # fmt: skip


def test_a_value_has_its_mean_spread_and_unit_wherever_it_is_told() -> None:
    model = {**MODEL, "classes": [], "value": {"target": "age", "unit": "years"}}
    found = [recording(2, value=41.5, value_sd=3.25)]
    (row,) = recording_table(found, model)
    assert {k: row[k] for k in ("target", "value", "value_sd", "unit")} == {
        "target": "age", "value": 41.5, "value_sd": 3.25, "unit": "years",
    }  # fmt: skip
    section = Section("s", "S", look="A.", then="B.")
    _value_table(section, found, model)
    assert section.blocks[-1].head == ("recording", "mean age", "SD over windows", "flagged")
    assert section.blocks[-1].rows == (("r2", "41.5 years", "3.25 years", "2 of 20"),)


def test_what_is_told_of_a_model_is_what_decided() -> None:
    own = classifier(
        threshold=0.4, people={"train": ["p", "q"], "test": ["r"]}, range={"x": 1}, centre="none"
    )
    told = _model("m", own, PredictConfig())
    assert (told["threshold"], told["n_people_learnt_from"], told["window_s"]) == (0.4, 2, 4.0)
    assert told["facts"] == {"threshold": 0.4, "centre": "none"}
    assert _model("m", own, PredictConfig(threshold=0.0))["threshold"] == 0.0
    assert _model("m", classifier(n_subjects=5), PredictConfig())["n_people_learnt_from"] == 5


def test_a_recording_is_predicted_again_where_anything_that_decides_has_changed() -> None:
    info = SimpleNamespace(array_sha256="a", n_times=9, source_sha256="s")
    usual = _mark(classifier(), {"r": info}, "r", PredictConfig())  # type: ignore[arg-type]
    others = [
        _mark(classifier(), {"r": info}, "r", PredictConfig(**change))  # type: ignore[arg-type]
        for change in ({"threshold": 0.3}, {"stride_s": 1.0}, {"positions": "p.csv"})
    ]
    for change in ({"array_sha256": "b"}, {"n_times": 10}):
        changed = SimpleNamespace(**{**vars(info), **change})
        others.append(_mark(classifier(), {"r": changed}, "r", PredictConfig()))  # type: ignore[arg-type]
    assert len({usual, *others}) == 6
    for same in ({"reaction": False}, {"device": "cuda"}):
        assert _mark(classifier(), {"r": info}, "r", PredictConfig(**same)) == usual  # type: ignore[arg-type]
