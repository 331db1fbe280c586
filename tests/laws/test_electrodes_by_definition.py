"""Electrodes said again: where they lie, what channels are made of, and the field that fits them best."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from eegm2.data.channels import (
    ALIASES,
    CANONICAL,
    MONTAGES,
    Montage,
    canonical,
    eeg_channels,
    numbered,
    wanted_channels,
)
from eegm2.data.config import PreprocessingConfig
from eegm2.data.electrodes import electrode_spread, montage, read_positions
from eegm2.data.positions import interpolation_weights, positions, template_directions
from eegm2.data.signal.mixing import mixing_matrix
from eegm2.errors import ConfigError, DataError
from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.electrodes import SITES, harmonics, refuse_electrodes, sites, spread
from eegm2.model.covariance.trunk import VirtualChannels
from eegm2.model.electrode_weights import electrode_weights
from eegm2.model.network import build_model
from eegm2.training.objectives.hiding import near_electrodes
from eegm2.training.objectives.montages import Montages

NINETEEN = MONTAGES["1020_19"]
RNG = np.random.default_rng(0)


def weights_of(names: Sequence[str], wanted: Sequence[str], **options: object) -> np.ndarray:
    return mixing_matrix(names, Montage("", tuple(wanted)), where="x", **options)[0]  # type: ignore[arg-type]


def mirrored(name: str) -> str:
    """Return the electrode on the other side: odd numbers are left, even ones right."""
    stem = name.rstrip("0123456789")
    number = int(name[len(stem) :] or 0)
    return f"{stem}{number + (1 if number % 2 else -1)}" if number else name


def test_the_ten_twenty_system() -> None:
    """Jasper (1958), with the newer names of T3 to T6."""
    older = "Fp1 Fp2 F7 F3 Fz F4 F8 T3 C3 Cz C4 T4 T5 P3 Pz P4 T6 O1 O2"
    assert tuple(canonical(name) for name in older.split()) == NINETEEN
    assert ALIASES == {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
    assert len(set(CANONICAL)) == len(CANONICAL)
    odd, even = ([n for n in CANONICAL if n[-1] in digits] for digits in ("13579", "02468"))
    assert {mirrored(name) for name in odd} == set(even)


def test_electrodes_lie_where_their_names_say() -> None:
    """Odd on the left, even on the right, z between them; Fp in front, O behind, C across, Cz on top."""
    table = template_directions()
    known = [name for name in CANONICAL if name in table]
    assert len(known) > 80
    for name in known:
        x, y, z = place = table[name]
        assert np.linalg.norm(place) == pytest.approx(1)
        if name.endswith("z"):
            assert abs(x) < 0.05, name
        else:
            assert (x < 0) == (int(name[-1]) % 2 == 1), name
            assert np.abs(table[mirrored(name)] - [-x, y, z]).max() < 0.1, name
    assert table["Cz"][2] > 0.98
    for stem, front in (("Fp", 0.9), ("F", 0.5), ("C", 0.0), ("P", -0.5), ("O", -0.9)):
        assert table[f"{stem}z"][1] == pytest.approx(front, abs=0.3), stem
    metres = np.linalg.norm(positions(known), axis=1)
    assert 0.06 < metres.min() < metres.max() < 0.14


def test_the_sites_of_virtual_channels_are_electrodes_and_spread_out() -> None:
    table = template_directions()
    for name, place in SITES.items():
        assert np.linalg.norm(place) == pytest.approx(1, abs=2e-3), name
        assert np.asarray(place) @ table[name] > np.cos(np.deg2rad(4)), name
    assert len(SITES) == 32
    for n in (4, 16, 32, 64):
        near = sites(n) @ sites(n).T - 2 * np.eye(n)
        assert near.max() < np.cos(0.15), n
        np.testing.assert_allclose(np.linalg.norm(sites(n), axis=1), 1)


@pytest.mark.parametrize("bipolar", [False, True])
def test_a_field_is_the_best_fit_with_a_penalty_and_a_constant_beside_it(bipolar: bool) -> None:
    """The least of |A c + r k - x|² + n Σ 0.01 d (d + 1) / 2 c², solved as one system with r kept."""
    places, order = sites(12), 3
    rows = np.eye(12)
    if bipolar:
        rows = rows[:-1] - rows[1:]
    fields, constant = rows @ harmonics(places, order), rows.sum(1)
    degree = np.array([d for d in range(1, order + 1) for _ in range(2 * d + 1)])
    roots = np.sqrt(len(rows) * 0.01 * degree * (degree + 1) / 2)
    x = RNG.standard_normal((len(rows), 5))
    system = np.block([[fields, constant[:, None]], [np.diag(roots), np.zeros((len(roots), 1))]])
    wanted = np.vstack([x, np.zeros((len(roots), 5))])
    expected = np.linalg.lstsq(system, wanted, rcond=None)[0][:-1]
    found = spread(places, order, rows if bipolar else None) @ x
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_channels_are_sums_of_their_electrodes() -> None:
    names = ["T3", "Fp1-F7", "F7-Fp1", "Cz", "Cz-T7"]
    places, channels = montage(names)
    table = template_directions()
    potentials = {name: RNG.standard_normal() for name in ("T7", "Fp1", "F7", "Cz")}
    at = [next(n for n in potentials if np.allclose(table[n], place)) for place in places]
    p = potentials
    expected = [p["T7"], p["Fp1"] - p["F7"], p["F7"] - p["Fp1"], p["Cz"], p["Cz"] - p["T7"]]
    np.testing.assert_allclose(channels @ [p[name] for name in at], expected)
    made = electrode_spread(["Cz-Fz", "Pz-Oz", "C3-C4", "P3-P4"])
    turned = electrode_spread(["Fz-Cz", "Pz-Oz", "C4-C3", "P3-P4"])
    np.testing.assert_allclose(turned, made * [-1, 1, -1, 1], atol=1e-10)


def test_own_places_go_before_the_tables_and_are_about_their_own_centre(tmp_path: Path) -> None:
    names = NINETEEN[:10]
    directions = RNG.standard_normal((10, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    centre = np.array([0.02, -0.03, 0.05])
    lines = [f"{n},{','.join(map(repr, row.tolist()))}" for n, row in zip(names, centre + 0.09 * directions)]
    (tmp_path / "p.csv").write_text("\n".join(["name,x,y,z", *lines]))
    found, channels = montage(names, read_positions(tmp_path / "p.csv"))
    np.testing.assert_allclose(found, directions, atol=1e-9)
    np.testing.assert_array_equal(channels, np.eye(10))
    (tmp_path / "t.tsv").write_text("x\tName\tz\ty\n1\tE1\t3\t2\n")
    assert read_positions(tmp_path / "t.tsv") == {"E1": (1.0, 2.0, 3.0)}


def test_how_near_is_one_place() -> None:
    """Two hundredths of a radian, some two millimetres on a head."""
    for angle, same in ((0.019, True), (0.022, False)):
        places = np.vstack([sites(4), [[0, np.sin(angle), np.cos(angle)], [0, 0, 1]]])
        if same:
            with pytest.raises(ConfigError, match="at one place: 4 and 5"):
                refuse_electrodes(places)
        else:
            refuse_electrodes(places)


def test_a_matrix_gives_what_the_names_say_in_any_order_of_the_file() -> None:
    potentials = dict(zip(NINETEEN, RNG.standard_normal(19)))
    wanted = ["C3-C4", "O1", "Fp2", "Pz-Oz", "T7"]
    potentials["Pz-Oz"] = 7.0  # there as a channel of its own
    for _ in range(5):
        names = RNG.permutation(list(potentials)).tolist()
        file = [{"T7": "EEG T3-REF", "O1": "o1.."}.get(name, name) for name in names]
        found = weights_of(file, wanted) @ [potentials[name] for name in names]
        p = potentials
        np.testing.assert_allclose(found, [p["C3"] - p["C4"], p["O1"], p["Fp2"], 7.0, p["T7"]])
        average = weights_of(file, NINETEEN[3:8], average_reference=True) @ [p[name] for name in names]
        chosen = np.array([p[name] for name in NINETEEN[3:8]])
        np.testing.assert_allclose(average, chosen - chosen.mean())


def test_whose_name_goes_before_whose() -> None:
    """A user's alias before the channel's own name, that before a name without its reader's number."""
    made, _ = mixing_matrix(["Fz", "mine"], Montage("", ("Fz",), {"mine": "Fz"}), where="x")
    np.testing.assert_array_equal(made, [[0, 1]])
    made, _ = mixing_matrix(["Fz-1", "Fz"], Montage("", ("Fz",)), where="x", repeated=("Fz",))
    np.testing.assert_array_equal(made, [[0, 1]])
    made, _ = mixing_matrix(["Cz", "T3", "T7"], Montage("", ("T7", "T3")), where="x")
    np.testing.assert_array_equal(made, [[0, 0, 1], [0, 1, 0]])
    assert numbered(["A", "B", "A", "A"]) == (["A-0", "B", "A-1", "A-2"], ("A",))
    assert eeg_channels(["Fz", "T3", "T7 ", "Pz."]) == ("Fz", "T3", "T7", "Pz")


def test_an_electrode_is_filled_from_the_others_at_their_own_columns() -> None:
    have = [name for name in NINETEEN if name not in ("Cz", "O2")]
    rows = {name: [column] for column, name in enumerate(have)}
    first = interpolation_weights(["Cz", "O2"], rows, 17, "x")
    order = RNG.permutation(17)
    turned = interpolation_weights(["O2", "Cz"], {have[i]: [k] for k, i in enumerate(order)}, 17, "x")
    for name, near in (("Cz", ("C3", "C4", "Fz", "Pz")), ("O2", ("O1", "P8", "P4"))):
        np.testing.assert_allclose(turned[name], first[name][order], atol=1e-6)
        assert first[name].sum() == pytest.approx(1, abs=0.05)
        assert set(np.array(have)[np.argsort(first[name])[-len(near) :]]) == set(near)
    made, filled = mixing_matrix(
        NINETEEN, Montage("", NINETEEN), where="x", unusable=("Cz", "O2"), interpolate=False
    )
    assert filled == ("Cz", "O2")
    np.testing.assert_allclose(
        made[NINETEEN.index("Cz"), [NINETEEN.index(n) for n in have]], first["Cz"], atol=1e-6
    )
    assert not made[:, NINETEEN.index("Cz")].any()


def test_places_of_channels_are_midway_between_what_they_are_the_difference_of() -> None:
    names = [("Fz", "Cz", "Pz", "Oz"), ("Fp1-F7", "C3-C4", "Cz", "P4-O2")]
    table, montages = template_directions(), Montages(names, 3)
    for store, channels in enumerate(names):
        for name, found in zip(channels, montages.places(store)):
            middle = np.sum([table[part] for part in name.split("-")], axis=0)
            np.testing.assert_allclose(found, middle / np.linalg.norm(middle), atol=1e-6)


def test_the_nearest_go_first_and_only_within_the_radius() -> None:
    """Of six that are there four stay, so that the two nearest of a centre go at most, itself the first."""
    places = torch.tensor([[np.sin(a), 0.0, np.cos(a)] for a in (0.0, 0.2, 0.45, 0.8, 1.2, 2.0, 3.0)])
    there = [0, 2, 3, 4, 5, 6]
    kept = torch.ones(60, 7, dtype=torch.bool)
    kept[:, 1] = False
    away = torch.cdist(places, places)
    gone_of = {
        centre: frozenset(
            [k for k in sorted(there, key=lambda k: float(away[centre, k])) if away[centre, k] < 0.5][:2]
        )
        for centre in there
    }
    stays = near_electrodes(range(60), places, kept, radius=0.5, fewest=4)
    found = {frozenset(k for k in there if not row[k]) for row in stays}
    assert found == set(gone_of.values())
    assert not stays[:, 1].any()


def test_virtual_channels_are_weights_over_harmonics_of_the_electrodes() -> None:
    config = EEGM2Config.preset("covariance", n_chans=6, n_virtual=5, width=4)
    channels = VirtualChannels(config)
    np.testing.assert_allclose(
        channels.weight.detach(), harmonics(sites(5), config.harmonics_order), atol=1e-6
    )
    x = torch.randn(2, 6, 9)
    map_ = channels.weight.detach().double().numpy() @ spread(sites(6), config.harmonics_order)
    np.testing.assert_allclose(channels(x).detach(), np.einsum("vc,bct->bvt", map_, x), atol=1e-4)


def test_the_strength_of_an_electrode_is_the_root_of_its_squares_over_their_mean() -> None:
    model = build_model(EEGM2Config.preset("unet", n_chans=5, width=4))
    first = next(layer for layer in model.modules() if isinstance(layer, torch.nn.Conv1d))
    size = np.sqrt((first.weight.detach().double().numpy() ** 2).sum((0, 2)))
    np.testing.assert_allclose(electrode_weights(model)["first layer"], size / size.mean(), rtol=1e-6)
    model = build_model(EEGM2Config.preset("covariance", n_chans=5, n_virtual=4, width=4))
    mixing = model.trunk.electrodes.mixing().detach().double().numpy()
    size = np.sqrt((mixing**2).sum(0))
    np.testing.assert_allclose(electrode_weights(model)["virtual channels"], size / size.mean(), rtol=1e-5)


def test_pairs_of_the_double_banana_follow_its_chains() -> None:
    chains = ("Fp1 F7 T7 P7 O1", "Fp2 F8 T8 P8 O2", "Fp1 F3 C3 P3 O1", "Fp2 F4 C4 P4 O2")
    pairs = [f"{a}-{b}" for chain in chains for a, b in itertools.pairwise(chain.split())]
    assert MONTAGES["tcp16"] == tuple(pairs)


def test_a_channel_whose_header_gives_no_range_counts_as_missing() -> None:
    have = ["Fz", "Cz", "Pz", "Oz", "C3", "C4"]
    with pytest.raises(DataError, match=r"channels without a range .*: Cz"):
        weights_of(have, ["Fz", "Cz"], without_range=("Cz",))
    made, filled = mixing_matrix(
        have, Montage("", ("Fz", "Cz")), where="x", without_range=("Cz",), interpolate=True
    )
    assert filled == ("Cz",)
    assert not made[:, 1].any()
    assert made[1].sum() == pytest.approx(1, abs=0.05)


def test_what_a_user_calls_a_channel_goes_before_what_a_montage_does(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('channels = ["Fz", "Cz"]\n[aliases]\nx = "Fz"\ny = "Cz"\n')
    config = PreprocessingConfig(montage=str(tmp_path / "m.toml"), aliases=("x=Cz", "z=Fz"))
    wanted = wanted_channels(config)
    assert wanted is not None
    assert wanted.channels == ("Fz", "Cz")
    assert wanted.aliases == {"x": "Cz", "y": "Cz", "z": "Fz"}
    spelt = wanted_channels(PreprocessingConfig(channels=("T3", "T7", "fz")))
    assert spelt is not None
    assert spelt.channels == ("T3", "T7", "Fz")
    (tmp_path / "n.toml").write_text('channels = ["T3", "T7"]\n')
    with pytest.raises(ConfigError, match="more than once: T7"):
        wanted_channels(PreprocessingConfig(montage=str(tmp_path / "n.toml")))


def test_places_on_a_head_that_is_no_ball_count_by_their_directions() -> None:
    directions = sites(5)
    own = {f"E{i}": (0.09 * (1 + 0.05 * (i - 2)) * place).tolist() for i, place in enumerate(directions)}
    found, _ = montage(list(own), own)
    np.testing.assert_allclose(found, directions, atol=1e-9)
