"""Corpora counted recording by recording: whose, in which part, judged how, with which scores and samples."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from eegm2.data.files import readers
from eegm2.data.labels import LabelSpan
from eegm2.data.recipes import dreamer, eegmmidb, stew, tuab, tuev, uea_ts
from tests.laws.test_data_sets_by_their_papers import read


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("below", ["edf", ""])
def test_whose_recording_of_tuab_is_in_which_part_and_judged_how(
    below: str, seed: int, tmp_path: Path
) -> None:
    """Told from folders and names; who is evaluated is not trained on, who was judged both ways stays."""
    rng = np.random.default_rng(seed)
    made: dict[str, tuple[str, str, str, str]] = {}
    for number in range(24):
        person, session = f"aaaaaa{'abcdefgh'[int(rng.integers(8))]}{number % 2}", int(rng.integers(1, 20))
        folder, label = str(rng.choice(["train", "eval"], p=[0.7, 0.3])), str(rng.choice([*tuab.CLASSES]))
        reference = str(rng.choice(["01_tcp_ar", "02_tcp_le"]))
        name = f"{person}_s{session:03d}_t{number:03d}"
        made[name] = person, folder, label, reference
        path = tmp_path / below / folder / label / reference / f"{name}.edf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.with_suffix(".txt").touch()
    found = tuab.discover(tmp_path)
    assert [r.recording_id for r in found] == sorted(made)
    for r in found:
        person, folder, label, reference = made[r.recording_id]
        theirs = [facts for facts in made.values() if facts[0] == person]
        judged = sorted({facts[2] for facts in theirs})
        assert (r.subject, r.session) == (person, r.recording_id.split("_")[1])
        assert r.split == {"train": "train", "eval": "test"}[folder]
        assert r.labels == (LabelSpan(0.0, math.inf, label),)
        both = {"subject_labels": "abnormal+normal"} if len(judged) == 2 else {}
        assert r.attributes == {"label": label, "reference": reference, **both}
        evaluated = any(facts[1] == "eval" for facts in theirs)
        assert bool(r.problem) == (folder == "train" and evaluated)
        assert r.path.parts[-4:-1] == (folder, label, reference)
    assert tuab.matches(tmp_path)


def test_what_happens_in_a_run_of_the_motor_data_set() -> None:
    """Schalk et al. (2004): fists in turn, then both fists or both feet; moved in odd runs, else imagined."""
    for run in range(1, 15):
        found = eegmmidb._recording(Path(f"S042R{run:02d}.edf"))
        assert (found.subject, found.recording_id) == ("S042", f"S042R{run:02d}")
        assert found.attributes["run"] == str(run)
        if run < 3:
            whole = LabelSpan(0.0, math.inf, ("eyes_open", "eyes_closed")[run - 1])
            assert (found.labels, found.attributes["task"]) == ((whole,), "baseline")
            continue
        task = "move" if run % 2 else "imagine"
        sides = ("both_fists", "both_feet") if run in (5, 6, 9, 10, 13, 14) else ("left_fist", "right_fist")
        assert eegmmidb.TASKS[run] == (task, *sides)
        assert (found.labels, found.attributes["task"]) == (None, task)
    assert eegmmidb._recording(Path("S042R15.edf")).problem
    assert eegmmidb._recording(Path("S042R00.edf")).problem


def test_marks_of_the_motor_data_set_become_what_they_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [(0.0, 4.2, "T0"), (4.2, 4.1, "T2"), (8.3, 4.2, "T0"), (12.5, 4.1, "T1"), (16.6, 1.0, "other")]
    for run, names in (
        (4, ("imagine_left_fist", "imagine_right_fist")),
        (13, ("move_both_fists", "move_both_feet")),
    ):
        raw = read()
        raw.set_annotations(mne.Annotations(*zip(*marks)))
        monkeypatch.setattr(readers, "read_raw", lambda path, raw=raw: raw)
        found = eegmmidb.read_run(Path("x.edf"), run).annotations
        meant = {"T0": "rest", "T1": names[0], "T2": names[1]}
        expected = [(onset, duration, meant.get(mark, mark)) for onset, duration, mark in marks]
        assert [(a["onset"], a["duration"], a["description"]) for a in found] == [
            (pytest.approx(onset), pytest.approx(duration), text) for onset, duration, text in expected
        ]


def test_events_of_temple_are_the_six_of_the_corpus() -> None:
    """Its documentation: 1 spsw, 2 gped, 3 pled, 4 eyem, 5 artf, 6 bckg."""
    assert [tuev.EVENTS[code] for code in range(1, 7)] == ["spsw", "gped", "pled", "eyem", "artf", "bckg"]
    assert len(tuev.EVENTS) == 6


def test_a_trial_of_the_archive_is_in_its_files_part_with_its_own_class(tmp_path: Path) -> None:
    head = "@problemName P\n@timeStamps false\n@dimensions 2\n@classLabel true {}\n@data\n"
    rng = np.random.default_rng(0)
    kept: dict[str, list[tuple[Any, str]]] = {"train": [], "test": []}
    for part, n in (("train", 3), ("test", 4)):
        lines = []
        for _ in range(n):
            x, label = rng.integers(-50, 50, (2, 6)), str(rng.choice(["left", "right"]))
            kept[part].append((x, label))
            lines.append(":".join([*(",".join(map(str, row)) for row in x), label]))
        (tmp_path / f"P_{part.upper()}.ts").write_text(head.format("left right") + "\n".join(lines) + "\n")
    (tmp_path / "P.toml").write_text('sfreq_hz = 50.0\nch_names = ["C3", "C4"]\n')
    found = uea_ts.discover(tmp_path)
    assert len(found) == 7
    for part, trials in kept.items():
        for place, (x, label) in enumerate(trials):
            (r,) = [one for one in found if one.recording_id == f"P_{part}-{place:04d}"]
            assert (r.split, r.attributes["part"], r.subject) == (part, part, "P")
            assert r.labels == (LabelSpan(0.0, math.inf, label),)
            raw = r.load()
            np.testing.assert_allclose(1e6 * raw.get_data(), x, atol=1e-9)
            assert (raw.info["sfreq"], raw.ch_names) == (50.0, ["C3", "C4"])


def test_every_film_has_its_own_scores_and_samples() -> None:
    """Each person's and each film's, of the valence, arousal and dominance that the file calls so."""
    rng = np.random.default_rng(0)
    scores = {
        field: rng.integers(1, 6, (3, 4)) for field in ("ScoreValence", "ScoreArousal", "ScoreDominance")
    }
    people = []
    for person in range(3):
        eeg = {segment: np.array([*[None] * 4], dtype=object) for segment in ("baseline", "stimuli")}
        for clip in range(4):
            eeg["baseline"][clip] = np.full((8, 14), 100 * person + clip)
            eeg["stimuli"][clip] = np.full((9, 14), 1000 + 100 * person + clip)
        entry = {"Age": f"{20 + person}", "Gender": "mf"[person % 2], "EEG": eeg}
        people.append(
            dreamer._subject({**entry, **{field: values[person] for field, values in scores.items()}})
        )
    for number, person in enumerate(people, start=1):
        assert (person["age"], person["sex"]) == (f"{19 + number}", "mf"[(number - 1) % 2])
        for clip in range(4):
            assert person["baseline"][clip][0, 0] == 100 * (number - 1) + clip
            assert person["stimuli"][clip][0, 0] == 1000 + 100 * (number - 1) + clip
            facts = dreamer._recording(Path("D"), person, number, "stimuli", "film", clip).attributes
            for name in ("valence", "arousal", "dominance"):
                assert facts[name] == f"{scores[f'Score{name.title()}'][number - 1, clip]}"


def test_ratings_are_of_rest_first_and_then_of_the_task(tmp_path: Path) -> None:
    (tmp_path / "ratings.txt").write_text("1, 2, 7\n3;5;4\n\n12\t9 1\n")
    assert stew.read_ratings(tmp_path / "ratings.txt") == {
        1: {"rest": 2, "task": 7},
        3: {"rest": 5, "task": 4},
        12: {"rest": 9, "task": 1},
    }
    assert stew.CONDITIONS == {"lo": "rest", "hi": "task"}
