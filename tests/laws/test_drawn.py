"""Laws of figures: what is drawn lies where its value, its name and its class are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from eegm2.report import figures
from eegm2.report.contents import Reconstruction, ReportData
from eegm2.report.figures import topography
from eegm2.report.figures.people import calibration_curves, person_scores
from eegm2.report.figures.representation import embedding_map, subject_maps
from eegm2.report.figures.style import mean_and_spread, spread_pick
from eegm2.report.figures.topography import topographic_maps
from eegm2.report.positions import head_positions
from eegm2.report.sections.reconstruction import reconstruction_section

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def _unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, and not written as SVG, which takes the time."""
    monkeypatch.setattr("eegm2.report.document.inline_svg", lambda figure, key: "")


def test_groups_of_a_calibration_have_equally_many_windows() -> None:
    p = RNG.random(80)
    y = RNG.random(80) < p
    axes = calibration_curves(y, {"m": p}, "open").axes[0]
    line = next(line for line in axes.lines if line.get_label() == "m")
    order = np.argsort(p).reshape(8, 10)
    np.testing.assert_allclose(line.get_xdata(), p[order].mean(1))
    np.testing.assert_allclose(line.get_ydata(), y[order].mean(1))


def test_chance_is_drawn_where_it_is() -> None:
    axes = person_scores({"m": {"p": 0.9, "q": 0.3}}, "score", chance=0.25).axes[0]
    dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
    assert set(dashed.get_xdata()) == {0.25}


def shape(dots: Any) -> bytes:
    """Return the outline of a collection's marker."""
    outline: bytes = dots.get_paths()[0].vertices.tobytes()
    return outline


def test_a_dot_has_the_colour_of_its_label_and_of_its_person() -> None:
    n = 40
    points = RNG.permutation(n)[:, None] + np.array([[0.0, 0.5]])
    labels, people = (
        np.array(["b", "a", "c"])[RNG.integers(0, 3, n)],
        np.array(["q", "p"])[RNG.integers(0, 2, n)],
    )
    figure = embedding_map(points, labels, people, ("x", "y"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["By label", "By subject"]
    for axes, groups in zip(figure.axes, (labels, people)):
        legend = [c for c in axes.collections if len(c.get_offsets()) == 0]
        named = {c.get_label(): (to_rgb(c.get_facecolor()[0]), shape(c)) for c in legend}
        drawn = {}
        for dots in axes.collections:
            for at, colour in zip(dots.get_offsets(), dots.get_facecolor()):
                drawn[float(at[0])] = (to_rgb(colour), shape(dots))
        own = {float(x): named[group] for x, group in zip(points[:, 0], groups)}
        assert drawn == own
        assert len(set(named.values())) == len(named) == len(set(groups))
    single = subject_maps(points, labels, people, ("x", "y"))
    shown = {
        axes.get_title(loc="left") or axes.get_title(): axes for axes in single.axes if axes.get_visible()
    }
    for name, axes in shown.items():
        everybody, *by_label = axes.collections
        assert len(everybody.get_offsets()) == n
        for label, dots in zip(sorted(set(labels)), by_label, strict=True):
            mine = points[(people == name) & (labels == label)]
            np.testing.assert_array_equal(np.asarray(dots.get_offsets()).reshape(-1, 2), mine)


def test_a_map_leaves_out_unknown_channels_and_keeps_the_others_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(topography, "_draw", lambda *given: drawn.append(given))
    names = ("X9", "Fz", "Cz", "nothing", "Pz", "Oz", "T7")
    topographic_maps(
        names, {"m": np.arange(7.0), "k": np.arange(14.0).reshape(2, 7)}, value_name="v", signed=True
    )
    _, at, tables, value_name, _, signed = drawn[0]
    known = [1, 2, 4, 5, 6]
    np.testing.assert_array_equal(tables["m"], [np.array(known, float)])
    np.testing.assert_array_equal(tables["k"], [known, np.add(known, 7)])
    where = head_positions(names)
    np.testing.assert_allclose(at, [where[names[i]] for i in known])
    assert (value_name, signed) == ("v", True)
    assert where["Oz"] == pytest.approx((0, -1), abs=0.15)
    assert where["T7"] == pytest.approx((-1, 0), abs=0.15)
    assert where["Fz"][1] > 0 > where["Pz"][1]


def test_quality_is_drawn_in_its_unit_beside_its_recording() -> None:
    bounds = np.array([[-50.0, 60.0], [-80.0, 70.0]])
    for seconds, unit, factor in ((100.0, "duration (s)", 1.0), (600.0, "duration (min)", 60.0)):
        figure = figures.quality_overview(
            ["a", "b"], np.array([seconds, 2 * seconds]) * 0.5, bounds, np.array([3.0, 12.0]),
            {"flat": np.array([1, 0]), "noisy": np.array([2, 3])},
        )  # fmt: skip
        length, width, mains, bad = figure.axes
        assert length.get_xlabel() == (unit if seconds >= 180 else "duration (s)")
        np.testing.assert_allclose(
            [bar.get_width() * factor for bar in length.patches], [seconds / 2, seconds]
        )
        for y, segment in enumerate(width.collections[0].get_segments()):
            np.testing.assert_array_equal(segment, [[bounds[y, 0], y], [bounds[y, 1], y]])
        line = next(line for line in mains.lines if line.get_marker() == "D")
        np.testing.assert_array_equal(line.get_xdata(), [3.0, 12.0])
        np.testing.assert_array_equal(line.get_ydata(), [0, 1])
        flat, noisy = bad.containers
        assert [bar.get_width() for bar in flat] == [1, 0]
        assert [(bar.get_x(), bar.get_width()) for bar in noisy] == [(1, 2), (0, 3)]


def test_a_label_is_drawn_from_its_onset_for_its_length() -> None:
    spans = [[(5.0, 10.0, "a"), (20.0, 0.0, "b")], [(1.0, 2.0, "b")]]
    axes = figures.label_timeline(["one", "two"], np.array([30.0, 40.0]), spans).axes[0]
    boxes = {}
    for bars in axes.collections:
        for path in bars.get_paths():
            low, high = path.vertices.min(0), path.vertices.max(0)
            if high[1] - low[1] > 0.7 and high[0] > low[0]:
                boxes[round((low[1] + high[1]) / 2)] = (low[0], high[0], to_rgb(bars.get_facecolor()[0]))
    assert [boxes[y][:2] for y in (0, 1)] == [(5.0, 15.0), (1.0, 3.0)]
    assert boxes[0][2] != boxes[1][2]
    points = [s for c in axes.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert any(np.allclose(s[:, 0], 20.0) and abs(s[:, 1].mean()) < 1e-9 for s in points)
    lengths = sorted(float(s[1, 0]) for s in points if s[0, 0] == 0)
    assert lengths == [30.0, 40.0]


def test_every_store_has_its_own_curve() -> None:
    curves = {
        "val_loss": np.array([3.0, 2.0]),
        "val_loss/one": np.array([4.0, 1.0]),
        "val_loss/two": np.array([2.0, 3.0]),
    }
    figure = figures.loss_curves(np.array([1, 2]), curves)
    panel = next(axes for axes in figure.axes if "each store" in axes.get_title(loc="left"))
    found = {line.get_label(): line.get_ydata().tolist() for line in panel.lines}
    assert found == {"one": [4.0, 1.0], "two": [2.0, 3.0]}
    total = figure.axes[0]
    assert next(line.get_label() for line in total.lines) == "validation"
    assert "lowest: 2, epoch 2" in [line.get_label() for line in total.lines]


def test_a_scale_bar_is_as_high_as_it_says() -> None:
    x = 30 * RNG.standard_normal((3, 200))
    axes = figures.reconstruction_traces(x, x, ["a", "b", "c"], 100.0, unit="µV").axes[0]
    bar = next(line for line in axes.lines if len(line.get_xdata()) == 2)
    text = next(t.get_text() for t in axes.texts if t.get_text().endswith("µV"))
    assert np.ptp(bar.get_ydata()) == pytest.approx(float(text.split()[0]))
    np.testing.assert_allclose(axes.lines[0].get_xdata(), np.arange(200) / 100)


def test_a_band_of_a_figure_holds_80_of_100_windows() -> None:
    db = RNG.standard_normal((50, 2, 9))
    figure = figures.channel_spectra(np.arange(1.0, 10.0), db, db + 5, ["a", "b"])
    for i, axes in enumerate(figure.axes[:2]):
        assert axes.get_title(loc="left") == "ab"[i]
        for line, values in zip(axes.lines, (db, db + 5)):
            np.testing.assert_allclose(line.get_ydata(), np.median(values[:, i], 0))
        low, high = (np.quantile(db[:, i], q, axis=0) for q in (0.1, 0.9))
        vertices = axes.collections[0].get_paths()[0].vertices
        for x, below, above in zip(np.arange(1.0, 10.0), low, high):
            there = vertices[vertices[:, 0] == x, 1]
            assert (there.min(), there.max()) == pytest.approx((below, above))
    error = figures.channel_error(["a", "b"], np.exp(db[..., 0]), db[..., 1])
    for axes, values in zip(error.axes, (np.exp(db[..., 0]), db[..., 1])):
        for y, segment in enumerate(axes.collections[0].get_segments()):
            np.testing.assert_allclose(segment[:, 0], np.quantile(values[:, y], (0.1, 0.9)))


def test_figures_of_a_reconstruction_are_over_all_windows_and_channels() -> None:
    x = RNG.standard_normal((9, 3, 64))
    y = x + RNG.uniform(0.1, 2, (9, 3, 1)) * RNG.standard_normal(x.shape)
    made = Reconstruction(x, y, tuple("abcdefghi"), tuple("ABCDEFGHI"), np.arange(9.0), n_available=100)
    data = ReportData("r", ch_names=("Fz", "Cz", "Pz"), sfreq_hz=32.0, reconstruction=made)
    section = reconstruction_section(data)
    facts = dict(next(block.rows for block in section.blocks if block.kind == "facts"))
    r = np.array([[np.corrcoef(a, b)[0, 1] for a, b in zip(*pair)] for pair in zip(x, y)])
    assert float(facts["ACMSE"].split()[0]) == pytest.approx(((x - y) ** 2).mean(), rel=5e-3)
    middle = facts["Pearson's r, median over windows and channels"]
    assert float(middle) == pytest.approx(np.median(r), rel=5e-3)
    lowest = facts["Pearson's r, lowest 5 %"].removeprefix("below ")
    assert float(lowest) == pytest.approx(np.quantile(r, 0.05), rel=5e-3)
    assert (
        "9 windows of validation subjects, unseen in training, drawn evenly from 100"
        in section.blocks[0].text
    )


def test_a_spread_is_that_of_all_seeds_and_a_choice_is_even() -> None:
    assert mean_and_spread(np.array([1.0, 2.0, 6.0])) == f"3.000 ± {np.std([1, 2, 6]):.3f}"
    assert mean_and_spread(np.array([1.0])) == "1.000"
    found = spread_pick(1000, 11)
    assert len(found) == 11
    assert (found[0], found[-1]) == (0, 999)
    assert np.ptp(np.diff(found)) <= 1
