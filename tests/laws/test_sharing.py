"""Laws of models that are shared or ship: what their input is, which name means what, what is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.deploy.predict import recording as predicted
from eegm2.errors import CheckpointError, EEGM2Error
from eegm2.model.config import EEGM2Config
from eegm2.model.network import build_model
from eegm2.zoo import facts, find, shipped

NAMES = ("Fz", "Cz", "Pz")


def tiny(preset: str = "eegm2", **options: Any) -> Any:
    torch.manual_seed(0)
    return build_model(EEGM2Config.preset(preset, n_chans=3, width=8, **options)).eval()


def header_of(folder: Path) -> dict[str, Any]:
    return facts.weights_header(folder / shipped.WEIGHTS)


@pytest.mark.parametrize(
    ("rate", "prepared_at", "expected"),
    [(None, None, 128.0), (None, 100.0, 100.0), (250.0, None, 250.0), (250.0, 100.0, 250.0)],
)
def test_a_rate_that_is_given_counts_before_that_of_the_preparation(
    rate: float | None, prepared_at: float | None, expected: float, tmp_path: Path
) -> None:
    """Header and preparation agree on it, whichever was said."""
    options = PreprocessingConfig(sfreq_hz=prepared_at) if prepared_at else None
    windows = WindowConfig(window_s=3.0)
    tiny().save_pretrained(
        tmp_path / "m", ch_names=NAMES, sfreq_hz=rate, preprocessing=options, windows=windows
    )
    header = header_of(tmp_path / "m")
    assert header["sfreq_hz"] == header["preprocessing"]["sfreq_hz"] == expected
    assert tuple(header["ch_names"]) == NAMES
    assert header["windows"]["window_s"] == 3.0


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e6, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="sfreq_hz: got"):
        tiny().save_pretrained(tmp_path / "m", ch_names=NAMES, sfreq_hz=rate)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("owner/model", True), ("owner/model.v2", True), ("o-w_n/m-o_d", True),
        ("owner/model.safetensors", False), ("owner/model.ckpt", False), ("owner/MODEL.PTH", False),
        ("owner/..", False), ("owner/mo..del", False), ("../model", False), ("owner", False),
        ("a/b/c", False), ("owner/", False), ("own er/model", False), ("nobody's", False),
    ],
)  # fmt: skip
def test_a_name_of_the_hub_is_owner_and_model_and_no_path(text: str, is_one: bool) -> None:
    assert find.is_name(text) is is_one


def test_models_that_ship_are_listed_trained_ones_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("untrained-a", "waves", "alpha", "untrained-waves"):
        tiny().save_pretrained(tmp_path / name, ch_names=NAMES)
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    assert list(shipped.shipped_models()) == ["alpha", "waves", "untrained-a", "untrained-waves"]
    assert shipped.default_model() == "alpha"
    assert [fact["name"] for fact in facts.shipped_facts()] == list(shipped.shipped_models())


def test_what_is_told_of_a_model_is_what_its_header_says(tmp_path: Path) -> None:
    """Any electrodes are for networks of virtual channels; of no data it says so; people are counted."""
    model = tiny("covariance", n_virtual=0, n_bands=2, trunk_width=2)
    data = [{"name": "x", "people": ["a", "b", "c"], "hours": 1.26, "licence": "CC0"}, {"name": "y"}]
    model.header = {"about": {"data": data, "parameters": 1234}}
    model.save_pretrained(tmp_path / "m", ch_names=NAMES, sfreq_hz=100.0)
    told = facts.facts_of("m", tmp_path / "m")
    assert told["electrodes"] == "Fz Cz Pz"
    assert told["rate"] == "100 Hz"
    assert told["trained on"] == "x (3 people, 1.3 h; CC0); y (0 people, 0.0 h; licence unknown)"
    assert told["seen"] == {"x": ["a", "b", "c"], "y": []}
    megabytes = (tmp_path / "m" / shipped.WEIGHTS).stat().st_size / 1e6
    assert told["size"] == f"{megabytes:.2f} MB, 1,234 parameters"
    build_model(EEGM2Config.preset("covariance", n_chans=4, n_virtual=4, n_bands=2, width=8)).save_pretrained(
        tmp_path / "any", ch_names=(*NAMES, "Oz")
    )
    any_of = facts.facts_of("any", tmp_path / "any")
    assert any_of["electrodes"] == "any four or more with known positions"
    assert any_of["trained on"] == "nothing: random weights"
    assert any_of["results"] == "none recorded"


@pytest.mark.parametrize("rate_hz", [20.0, 64.0, 128.0])
def test_a_page_draws_bands_of_the_rate_and_channels_and_windows_from_end_to_end(
    rate_hz: float, tmp_path: Path
) -> None:
    """A band that begins at half the rate or above is not there; six channels and eight windows at most."""
    bands = {"delta": 1.0, "theta": 4.0, "alpha": 8.0, "beta": 13.0, "gamma": 30.0}
    names = [f"E{i}" for i in range(9)]
    rng = np.random.default_rng(0)
    array = rng.standard_normal((9, round(60 * rate_hz))).astype(np.float32)
    raw = np.stack(np.split(array, 30, axis=1)).astype(np.float32)
    store: Any = SimpleNamespace(sfreq_hz=rate_hz, ch_names=names)
    features = rng.standard_normal((30, 4))
    drawn = predicted._drawn(array, raw, store, features)
    assert drawn["bands"].tolist() == [name for name, low in bands.items() if low < rate_hz / 2]
    assert drawn["band_power"].shape == (30, 9, len(drawn["bands"]))
    shown = drawn["shown"].tolist()
    assert (len(shown), shown[0], shown[-1]) == (6, "E0", "E8")
    np.testing.assert_array_equal(drawn["some_uv"][[0, -1]], raw[[0, -1]])
    assert len(drawn["some_uv"]) == 8
    np.testing.assert_allclose(drawn["mean_features"], features.mean(0))
    few = predicted._drawn(
        array[:2], raw[:3, :2], SimpleNamespace(sfreq_hz=rate_hz, ch_names=names[:2]), None
    )  # type: ignore[arg-type]
    assert few["shown"].tolist() == ["E0", "E1"]
    np.testing.assert_array_equal(few["some_uv"], raw[:3, :2])
    assert "mean_features" not in few


@pytest.mark.parametrize("preset", ["unet", "eegm2"])
def test_a_network_refuses_numbers_of_another_kind_than_its_weights(preset: str) -> None:
    network = tiny(preset)
    with pytest.raises((EEGM2Error, ValueError), match="float64"):
        network(torch.zeros(1, 3, 64, dtype=torch.float64))
    with pytest.raises((EEGM2Error, ValueError), match=r"2 channels|3"):
        network(torch.zeros(1, 2, 64))
