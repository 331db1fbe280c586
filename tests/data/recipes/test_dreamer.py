"""DREAMER: the nested MATLAB file as published, written small."""

import numpy as np
import pytest
from scipy.io import savemat

from eegm2.data.recipes import dreamer
from eegm2.data.recipes.arrays import EPOC14
from eegm2.errors import DataError


def cells(items):
    out = np.empty((len(items), 1), dtype=object)
    for index, item in enumerate(items):
        out[index, 0] = item
    return out


def subject(rng, films=3, scores=None):
    scores = films if scores is None else scores
    eeg = {
        "baseline": cells([4200 + 20 * rng.standard_normal((256, 14)) for _ in range(films)]),
        "stimuli": cells([4200 + 20 * rng.standard_normal((300 + 10 * f, 14)) for f in range(films)]),
    }
    ratings = {name: np.arange(1, scores + 1).reshape(-1, 1) + 1.0 for name in dreamer.SCORES.values()}
    return {"Age": "22", "Gender": "male", "EEG": eeg, "ECG": eeg, **ratings}


def write(path, subjects, names=EPOC14):
    data = np.empty((1, len(subjects)), dtype=object)
    for index, entry in enumerate(subjects):
        data[0, index] = entry
    electrodes = np.empty((1, len(names)), dtype=object)
    electrodes[0, :] = names
    top = {
        "Data": data,
        "EEG_SamplingRate": 128,
        "ECG_SamplingRate": 256,
        "EEG_Electrodes": electrodes,
        "noOfSubjects": len(subjects),
        "Provider": "University",
    }
    savemat(path, {"DREAMER": top}, do_compression=True)


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    write(tmp_path / "DREAMER.mat", [subject(rng), subject(rng)])
    return tmp_path


def test_baseline_and_film_of_each_clip_are_recordings(tree):
    found = {r.recording_id: r for r in dreamer.discover(tree)}
    assert len(found) == 2 * 3 * 2
    film = found["S02_clip03_film"]
    assert (film.subject, film.labels[0].label) == ("S02", "film")
    assert film.attributes["valence"] == "4"
    assert film.attributes["valence_class"] == "high"
    assert found["S01_clip02_baseline"].attributes["arousal_class"] == "low"
    assert found["S01_clip01_film"].attributes["sex"] == "male"
    assert list(found) == sorted(found)


def test_signal_lengths_names_and_volts(tree):
    found = {r.recording_id: r for r in dreamer.discover(tree)}
    raw = found["S01_clip03_film"].load()
    assert tuple(raw.ch_names) == EPOC14
    assert raw.info["sfreq"] == 128
    assert raw.n_times == 320
    assert abs(np.median(raw.get_data()) - 4200e-6) < 5e-6
    assert found["S01_clip03_baseline"].load().n_times == 256
    assert not np.array_equal(found["S02_clip03_film"].load().get_data(), raw.get_data())


def test_a_changed_file_is_read_again(tree):
    first = dreamer.discover(tree)
    write(tree / "DREAMER.mat", [subject(np.random.default_rng(5), films=4)])
    assert len(dreamer.discover(tree)) == 8 != len(first)


def test_unfit_files_are_refused(tree):
    path = tree / "DREAMER.mat"
    write(path, [subject(np.random.default_rng(0), scores=2)])
    with pytest.raises(DataError, match=r"DREAMER\.mat: not structured as DREAMER .*2 scores for 3 films"):
        dreamer.discover(tree)
    savemat(path, {"other": 1})
    with pytest.raises(DataError, match=r"not structured as DREAMER .*'DREAMER'"):
        dreamer.discover(tree)
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(DataError, match=r"DREAMER\.mat: "):
        dreamer.discover(tree)
    path.unlink()
    with pytest.raises(DataError, match=r"DREAMER\.mat: cannot read it \(No such file"):
        dreamer.discover(tree)


def test_wrong_number_of_electrodes_names_the_place(tree):
    write(tree / "DREAMER.mat", [subject(np.random.default_rng(0))], names=EPOC14[:13])
    recording = dreamer.discover(tree)[0]
    with pytest.raises(
        DataError, match=r"DREAMER\.mat: subject 1, baseline, clip 1: 14 channels, expected 13"
    ):
        recording.load()


def test_matches(tree, tmp_path_factory):
    assert dreamer.matches(tree)
    assert dreamer.matches(tree / "DREAMER.mat")
    assert not dreamer.matches(tmp_path_factory.mktemp("other"))
