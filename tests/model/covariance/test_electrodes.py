"""Virtual channels: harmonics, references, order of channels, fewer electrodes, montages that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from eegm2 import EEGM2, EEGM2Config, for_electrodes
from eegm2.data.electrodes import electrode_spread, on_montage, read_positions
from eegm2.data.positions import template_directions
from eegm2.errors import ConfigError
from eegm2.model.covariance.electrodes import SITES, harmonics, sites, spread
from eegm2.model.network import fresh_copy

EPOC = ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"]


def model(**changes: object) -> EEGM2:
    torch.manual_seed(0)
    made = EEGM2(EEGM2Config.preset("covariance", **{"n_chans": 14, "width": 4, **changes})).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return for_electrodes(made, EPOC)


def test_harmonics_are_scipys_and_orthonormal() -> None:
    rng = np.random.default_rng(0)
    places = rng.standard_normal((7, 3))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    polar, azimuth = np.arccos(places[:, 2]), np.arctan2(places[:, 1], places[:, 0])
    expected = []
    for degree in range(1, 5):
        for m in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(m), polar, azimuth) * (-1) ** m * np.sqrt(4 * np.pi)
            part = value.real if m >= 0 else value.imag
            expected.append(part * (np.sqrt(2) if m else 1))
    np.testing.assert_allclose(harmonics(places, 4), np.stack(expected, axis=1), atol=1e-12)
    many = sites(4000)  # a spiral over most of the sphere
    assert np.abs(np.linalg.norm(many, axis=1) - 1).max() < 1e-12


def test_a_smooth_field_is_found_from_few_electrodes() -> None:
    places, coefficients = sites(32), np.zeros(24)
    coefficients[:8] = np.random.default_rng(0).standard_normal(8)
    field = harmonics(places, 4) @ coefficients + 5.0  # and a reference
    found = spread(places, 4) @ field
    at_sites = harmonics(sites(16), 4)
    error = np.linalg.norm(at_sites @ (found - coefficients)) / np.linalg.norm(at_sites @ coefficients)
    assert error < 0.1
    np.testing.assert_allclose(spread(places, 4) @ np.ones(32), 0, atol=1e-10)


def test_bipolar_pairs_are_differences() -> None:
    table = template_directions()
    names = ["Fp1", "F7", "T7", "P7", "O1", "Fp2", "F8", "T8", "P8", "O2"]
    places = np.stack([table[name] for name in names])
    pairs = np.zeros((8, 10))
    chains = [(0, 1), (1, 2), (2, 3), (3, 4), (5, 6), (6, 7), (7, 8), (8, 9)]
    for row, (a, b) in enumerate(chains):
        pairs[row, [a, b]] = 1, -1
    asked = [f"{names[a]}-{names[b]}" for a, b in chains]
    np.testing.assert_allclose(electrode_spread(asked), spread(places, 4, pairs), atol=1e-12)


@torch.no_grad()
def test_permuted_channels_and_another_reference_change_nothing() -> None:
    network = model()
    x = torch.randn(2, 14, 512)
    order = torch.randperm(14, generator=torch.Generator().manual_seed(3))
    other = for_electrodes(network, [EPOC[i] for i in order])
    torch.testing.assert_close(other.encode(x[:, order]), network.encode(x), rtol=0, atol=1e-4)
    common = torch.randn(2, 1, 512)
    torch.testing.assert_close(network.encode(x + common), network.encode(x), rtol=0, atol=1e-3)
    assert not torch.allclose(network.encode(x[:, order]), network.encode(x), atol=1e-2)


@torch.no_grad()
def test_matching_names_are_the_trained_weights() -> None:
    network = model()
    assert on_montage(network, EPOC, ["T3" if name == "T7" else name for name in EPOC]) is network
    again = for_electrodes(network, [f"EEG {name}-REF" for name in EPOC])
    x = torch.randn(1, 14, 256)
    assert torch.equal(again.encode(x), network.encode(x))
    assert again.encoder is network.encoder
    map_ = network.trunk.electrodes.get_buffer("spread")
    assert torch.equal(network.encode(x, spread=map_), network.encode(x))
    each = torch.stack([map_, 2 * map_])
    both = network.encode(torch.cat([x, x]), spread=each)
    torch.testing.assert_close(both[0], network.encode(x)[0])


@torch.no_grad()
def test_fewer_electrodes_of_a_smooth_field_change_it_gently() -> None:
    """What 14 electrodes see of a field without sharp edges, 8 see nearly, and 4 roughly."""
    network = model()
    table = template_directions()
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(2, 8, 1024, generator=generator)

    def features(names: list[str]) -> torch.Tensor:
        field = torch.tensor(harmonics(np.stack([table[name] for name in names]), 2)).float()
        return for_electrodes(network, names).features(field @ sources)

    whole = features(EPOC)
    few, fewest = features([*EPOC[1::2], "AF3"]), features(["F3", "F4", "P7", "P8"])
    near, far = ((made - whole).norm() / whole.norm() for made in (few, fewest))
    assert 0 < near < far < 1


@torch.no_grad()
def test_a_fresh_copy_is_for_the_same_electrodes() -> None:
    network = model()
    other = fresh_copy(network)
    a, b = (net.trunk.electrodes.get_buffer("spread") for net in (network, other))
    assert torch.equal(a, b)
    assert not torch.equal(other.encoder.conv2.weight, network.encoder.conv2.weight)


@pytest.mark.parametrize(
    ("names", "positions", "message"),
    [
        (["Fz", "Cz", "Pz"], None, r"got 3 \(Fz, Cz, Pz\), expected at least 4"),
        (["Fz", "Cz", "Pz", "E1", "E2"], None, "no position is known for E1, E2; give them with --positions"),
        (["Fz", "Cz", "Pz", "Oz", "fz"], None, "more than once: Fz"),
        (
            ["Fz", "Cz", "Pz", "E1"],
            {"E1": tuple(template_directions()["Cz"])},
            "at one place: Cz and E1",
        ),
        (["A", "B", "C", "D"], {n: (i, 0, 1) for i, n in enumerate("ABCD")}, "lie on no sphere"),
    ],
)
def test_montages_that_cannot_be_used_are_refused(
    names: list[str], positions: dict[str, tuple[float, float, float]] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        for_electrodes(model(), names, positions)


def test_a_network_of_fixed_electrodes_says_so() -> None:
    light = EEGM2(EEGM2Config.preset("light", n_chans=4, width=4))
    with pytest.raises(ConfigError, match="takes the electrodes it was trained on"):
        for_electrodes(light, ["Fz", "Cz", "Pz", "Oz"])
    with pytest.raises(ConfigError, match="positions: this network"):
        on_montage(light, ["Fz"] * 4, ["Fz", "Cz", "Pz", "Oz"], "positions.csv")


def test_positions_from_a_table_in_any_unit_and_about_the_ears(tmp_path: Path) -> None:
    table = template_directions()
    names = list(SITES)[:12]
    expected = electrode_spread(names)
    for number, (scale, origin) in enumerate(((1.0, 0.0), (95.0, 0.0), (0.095, 0.04))):
        rows = [f"E{i},{','.join(map(str, scale * table[n] + [0, 0, origin]))}" for i, n in enumerate(names)]
        path = tmp_path / f"{number}.csv"
        path.write_text("name,x,y,z\n" + "\n".join(rows) + "\n")
        found = electrode_spread([f"E{i}" for i in range(12)], read_positions(path))
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x,y\nA,1,2\n", "no column z; expected name,x,y,z"),
        ("name,x,y,z\nA,1,two,3\n", "line 2: .*expected numbers"),
        ("name,x,y,z\nA,1,nan,3\n", "line 2: got 1.0, nan, 3.0"),
        ("name,x,y,z\nA,1,0,0\nA,0,1,0\n", "line 3: A for the second time"),
        ("name,x,y,z\n", "has no row"),
    ],
)
def test_tables_of_positions_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "positions.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_positions(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_positions(tmp_path / "none.csv")
