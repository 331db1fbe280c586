"""Laws of pages: every figure of a section is of the values, the people and the channels that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from eegm2.report import figures, sections
from eegm2.report.contents import (
    ClassPower,
    Evaluation,
    Probe,
    Reconstruction,
    Recording,
    ReportData,
    TrainingLog,
)
from eegm2.report.document import Section
from eegm2.report.figures import topography
from eegm2.report.sections.words import option, setting

NAMES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")
RNG = np.random.default_rng(3)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the figures of the sections that are made, by section and number."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(
        "eegm2.report.document.inline_svg", lambda figure, key: found.update({key: figure}) or ""
    )
    return found


def panel(figure: Any, title: str) -> Any:
    """Return the axes of a title."""
    return next(axes for axes in figure.axes if title in (axes.get_title(loc="left"), axes.get_title()))


def named(axes: Any) -> dict[str, np.ndarray]:
    """Return the heights of the lines that a legend names."""
    return {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in axes.lines}


def made(x: np.ndarray, y: np.ndarray, **more: Any) -> ReportData:
    """Return a report of windows and what a model makes of them, one person each."""
    who = tuple(f"p{i}" for i in range(len(x)))
    windows = Reconstruction(x, y, who, who, np.arange(len(x), dtype=float), n_available=len(x))
    return ReportData("r", ch_names=NAMES, sfreq_hz=64.0, reconstruction=windows, **more)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_what_a_reconstruction_lacks_is_below_zero(factor: float, drawn: dict[str, Any]) -> None:
    """Of half the amplitude a quarter of the power, 6 dB less, in all channels and in each."""
    x = RNG.standard_normal((5, 6, 256))
    sections.spectra_section(made(x, factor * x))
    whole, each = drawn["spectra-1"], drawn["spectra-2"]
    decibels = 20 * np.log10(factor)
    left, right = (panel(whole, title) for title in ("Spectrum, all channels", "Difference"))
    lines = named(left)
    np.testing.assert_allclose(lines["reconstruction"] - lines["original"], decibels, atol=1e-6)
    np.testing.assert_allclose(right.lines[1].get_ydata(), decibels, atol=1e-6)
    assert right.get_ylabel() == "reconstruction − original (dB)"
    for name in NAMES:
        lines = named(panel(each, name))
        np.testing.assert_allclose(lines["reconstruction"] - lines["original"], decibels, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [64.0, 100.0])
def test_a_spectrum_is_in_hertz_and_of_its_channel(rate_hz: float, drawn: dict[str, Any]) -> None:
    """Every channel has a rhythm of its own, which stands where its frequency is, at its power."""
    rhythms = 4.0 + 2 * np.arange(6)
    t = np.arange(int(8 * rate_hz)) / rate_hz
    x = np.sqrt(2) * np.sin(2 * np.pi * rhythms[:, None] * t)[None].repeat(3, 0)
    data = made(x, x)
    data.sfreq_hz = rate_hz
    sections.spectra_section(data)
    for name, rhythm in zip(NAMES, rhythms):
        line = panel(drawn["spectra-2"], name).lines[0]
        hz, db = np.asarray(line.get_data(), float)
        assert hz[db.argmax()] == pytest.approx(rhythm, abs=0.01)
        assert 10 * np.log10((10 ** (db / 10)).sum() * (hz[1] - hz[0])) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("people", "by", "who"),
    [
        ("abc", "subject", "validation subjects"),
        ("aaa", "subject", "recordings of people who were trained on"),
        ("abc", "recording", "recordings of people who were trained on"),
    ],
)
def test_unseen_people_are_people_and_not_recordings(
    people: str, by: str, who: str, drawn: dict[str, Any]
) -> None:
    """One person's recordings, or a division of recordings, leave nobody unseen."""
    x = RNG.standard_normal((2, 6, 64))
    found = [Recording(f"r{i}", name, "", 60.0, 64.0) for i, name in enumerate(people)]
    section = sections.reconstruction_section(made(x, x + 1, recordings=found, split_by=by))
    assert who in section.blocks[0].text
    assert ("validation subjects" in section.blocks[0].text) == (who == "validation subjects")


def test_every_channel_has_its_own_error_and_correlation(drawn: dict[str, Any]) -> None:
    """In traces and in the summary of channels, thinned or not."""
    names = tuple(f"ch{i}" for i in range(45))
    x = RNG.standard_normal((4, 45, 128))
    y = x + 0.05 * (1 + np.arange(45))[:, None] * RNG.standard_normal(x.shape)
    data = made(x, y)
    data.ch_names = names
    sections.reconstruction_section(data)
    r = figures.channel_correlation(x, y)
    worst = int(((x - y) ** 2).mean((1, 2)).argmax())
    axes = drawn["reconstruction-2"].axes[0]
    assert axes.get_xlim() == (0, 2.0), "128 samples at 64 Hz, in seconds"
    assert any(note.get_text().endswith(" scaled units") for note in axes.texts)
    rows = {text.get_text(): y for y, text in zip(axes.get_yticks(), axes.get_yticklabels())}
    told = {note.xy[1]: note.get_text() for note in axes.texts}
    assert len(rows) == 20
    for name, height in rows.items():
        assert told[height] == f"{r[worst, names.index(name)]:.3f}"
    left, right = (
        panel(drawn["reconstruction-3"], f"{what} per channel") for what in ("Error", "Correlation")
    )
    shown = [text.get_text() for text in left.get_yticklabels()]
    for axes, values in ((left, ((x - y) ** 2).mean(-1)), (right, r)):
        dots = next(line for line in axes.lines if line.get_marker() == "o")
        expected = [np.median(values[:, names.index(name)]) for name in shown]
        np.testing.assert_allclose(dots.get_xdata(), expected)


def test_the_last_value_of_a_curve_is_the_last_that_there_is(drawn: dict[str, Any]) -> None:
    """Validation is not logged in every epoch; the rate has no lowest value worth telling."""
    curves = {
        "train_loss": np.array([9.0, 5.0, 3.0, 4.0]),
        "val_loss": np.array([np.nan, 8.0, 7.0, np.nan]),
        "lr": np.array([1e-4, 5e-4, 2e-4, 3e-4]),
    }
    section = sections.training_section(ReportData("r", log=TrainingLog(np.array([1, 2, 3, 4]), curves)))
    table = next(block for block in section.blocks if block.kind == "table")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["validation, total"] == ("8", "7", "7")
    assert rows["training, total"] == ("9", "3", "4")
    assert rows["learning rate"] == ("1.00e-04", "–", "3.00e-04")
    figure = drawn["training-1"]
    assert named(panel(figure, "Learning rate"))
    np.testing.assert_allclose(panel(figure, "Learning rate").lines[0].get_ydata(), [1, 5, 2, 3])
    total = panel(figure, "Total loss")
    lines = {str(line.get_label()): line for line in total.lines}
    np.testing.assert_array_equal(lines["validation"].get_xdata(), [2, 3])
    assert (lines["training"].get_linestyle(), lines["validation"].get_linestyle()) == ("-", "--")
    (low,) = (line for label, line in lines.items() if label.startswith("lowest"))
    assert (list(low.get_xdata()), list(low.get_ydata()), low.get_label()) == ([3], [7], "lowest: 7, epoch 3")


def test_the_range_of_a_recording_goes_from_low_to_high(drawn: dict[str, Any]) -> None:
    """Each in its row, with its bad channels by kind and its mains in decibels."""
    quality = [
        {
            "low_uv": -10.0 * (i + 1), "high_uv": 30.0 * (i + 1), "line_noise_ratio": 10.0**i,
            "flat_channels": ["C3"] * i, "noisy_channels": ["O1"] * (3 - i),
        }
        for i in range(3)
    ]  # fmt: skip
    found = [Recording(f"r{i}", "s", "", 60.0 * (i + 1), 64.0, quality=quality[i]) for i in range(3)]
    sections.quality_section(ReportData("r", recordings=found))
    length, width, mains, bad = drawn["quality-1"].axes
    assert [text.get_text() for text in length.get_yticklabels()] == ["r0", "r1", "r2"]
    assert [bar.get_width() for bar in length.patches] == [1.0, 2.0, 3.0]
    segments = [segment[:, 0].tolist() for segment in width.collections[0].get_segments()]
    assert segments == [[-10, 30], [-20, 60], [-30, 90]]
    assert next(line for line in mains.lines if line.get_marker() == "D").get_xdata().tolist() == [0, 10, 20]
    assert {bars.get_label(): [bar.get_width() for bar in bars] for bars in bad.containers} == {
        "flat": [0, 1, 2], "noisy": [3, 2, 1],
    }  # fmt: skip


def test_a_mean_curve_is_the_mean_of_its_seeds(drawn: dict[str, Any]) -> None:
    """Of each class against the rest; with two classes that of the second alone."""
    y = np.repeat([0, 1, 2], 40)
    seeds = [np.eye(3)[y] + RNG.normal(0, 1 + i, (120, 3)) for i in range(3)]
    for classes in (["n", "y"], ["a", "b", "c"]):
        n = len(classes)
        own, scores = y[y < n], [score[y < n, :n] for score in seeds]
        axes: Any = figures.roc_curves(own, {"light": scores}, classes).axes[0]
        lines = {str(line.get_label()).split("  ")[0]: line for line in axes.lines}
        shown = range(1, 2) if n == 2 else range(n)
        assert {name for name in lines if not name.startswith("_")} == {classes[c] for c in shown}
        for c in shown:
            areas = [figures.roc_points(own == c, score[:, c])[2] for score in scores]  # type: ignore[index]
            at, rate = np.asarray(lines[classes[c]].get_data(), float)
            assert np.trapezoid(rate, at) == pytest.approx(np.mean(areas), abs=0.01)
            assert f"{np.mean(areas):.3f} ± {np.std(areas):.3f}" in str(lines[classes[c]].get_label())


def test_of_a_map_every_row_is_of_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """And every column of its rhythm; a signed map has one scale about zero, others their own."""
    calls: list[tuple[str, np.ndarray, tuple[float, float]]] = []

    def topomap(values: np.ndarray, at: Any, *, axes: Any, vlim: Any, **_: Any) -> Any:
        calls.append((axes.get_title(), values, vlim))
        return axes.imshow(np.zeros((2, 2))), None

    monkeypatch.setattr("mne.viz.plot_topomap", topomap)
    power = np.arange(3 * 2 * 6.0).reshape(3, 2, 6)
    figure: Any = figures.band_power_maps(NAMES, power, ["theta", "alpha"], ["a", "b", "c"])
    places = topography._placed(NAMES)[0]
    expected = [power[row, band][places] for band in range(2) for row in range(3)]
    for (_, values, limits), own in zip(calls, expected, strict=True):
        np.testing.assert_array_equal(values, own)
        band = next(b for b in range(2) if np.isin(own, power[:, b]).all())
        assert limits == (power[:, band].min(), power[:, band].max())
    grid = [axes for axes in figure.axes if axes.get_ylabel() in ("a", "b", "c")]
    assert [axes.get_ylabel() for axes in grid] == ["a", "b", "c"]
    assert {axes.get_title() for axes in figure.axes} - {""} == {"theta", "alpha"}
    calls.clear()
    figures.topographic_maps(NAMES, {"u": -power[0, 0], "v": power[1, 0]}, value_name="x", signed=True)
    assert {limits for _, _, limits in calls} == {(-power[1, 0].max(), power[1, 0].max())}


def test_a_mark_of_doubt_is_below_the_window_it_doubts() -> None:
    spans = np.array([[0.0, 2.0], [2.0, 4.0], [4.0, 6.0], [6.0, 8.0]])
    axes: Any = figures.probability_over_time(
        np.zeros((1, 2, 8)), ["Cz"], 8.0, spans, np.full((4, 2), 0.5), ["a", "b"],
        flagged=np.array([False, True, False, True]), labels=["a", "b", "", "b"], threshold=0.3,
    ).axes  # fmt: skip
    ticks = next(line for line in axes[-1].lines if line.get_marker() == "|")
    assert list(ticks.get_xdata()) == [3.0, 7.0]
    dashed = next(line for line in axes[-1].lines if line.get_linestyle() == "--")
    assert set(dashed.get_ydata()) == {0.3}
    legend = axes[0].get_legend()
    assert legend is not None
    colours = {t.get_text(): p.get_facecolor()[:3] for t, p in zip(legend.get_texts(), legend.get_patches())}
    shaded = {
        (float(p.get_x()), float(p.get_x() + p.get_width())): p.get_facecolor()[:3] for p in axes[-1].patches
    }
    assert shaded == {
        (0.0, 2.0): colours["a"], (2.0, 4.0): colours["b"], (6.0, 8.0): colours["b"],
    }  # fmt: skip


def test_bars_of_a_rhythm_are_blue_where_the_answer_falls() -> None:
    """As the page says; the first is on top, and each at its name."""
    axes: Any = figures.band_reactions(
        ["delta", "alpha", "beta"], np.array([0.5, -0.25, 0.0]), "age (years)"
    ).axes[0]
    bars = list(axes.patches)
    assert [bar.get_width() for bar in bars] == [0.5, -0.25, 0.0]
    blue = [bar.get_facecolor()[2] > bar.get_facecolor()[0] for bar in bars]
    assert blue == [True, False, True]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["delta", "alpha", "beta"]
    assert axes.yaxis_inverted()
    assert axes.get_xlabel() == "fall of age (years) when halved"


def test_a_share_without_a_label_is_no_skill_of_anyone(drawn: dict[str, Any]) -> None:
    """Chance is counted over labelled test windows; spreads over seeds are standard deviations."""
    y = np.array([0, 0, 0, 1, -1, -1])
    rows = [
        {"protocol": "light", "seed": s, "metrics": {"accuracy": v}} for s, v in enumerate((0.5, 0.6, 0.9))
    ]
    probe = Probe("p", task={"classes": ["a", "b"]}, protocols=rows, y_true=y)
    section = sections.downstream_section(ReportData("r", probes=[probe]))
    table = next(block for block in section.blocks if block.kind == "table")
    values = [0.5, 0.6, 0.9]
    spread = f"{np.mean(values):.3f} ± {np.std(values):.3f}"
    assert [row[2] for row in table.rows] == [spread, "0.750"]
    axes = drawn["downstream-1"].axes[0]
    (bar,) = axes.containers
    low, high = bar.lines[2][0].get_segments()[0][:, 0]
    assert (high - low) / 2 == pytest.approx(np.std(values))
    assert set(axes.lines[0].get_xdata()) == {0.75}
    assert spread in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("unit", ["subject", "recording"])
def test_a_curve_of_a_method_is_dotted_and_of_its_own_numbers(unit: str) -> None:
    """Over the people whose labels it was given, with the interval of each; the order of rows is nothing."""
    rows = [
        {
            "model": f"{model}, {count} {unit}s", "kind": kind, "metric": "auroc", "unit": unit,
            "mean": mean + count / 100, "ci_low": mean - 0.1, "ci_high": mean + 0.3, "std": 9.0,
            "train_subjects": count,
        }
        for model, kind, mean in (("ours", "linear", 0.6), ("theirs", "baseline", 0.5))
        for count in (20, 5, 10)
    ]  # fmt: skip
    axes: Any = figures.learning_curves(rows, "auroc").axes[0]
    assert f"{unit}s with labels" in axes.get_xlabel()
    for bars, (name, style, mean) in zip(
        axes.containers, (("ours", "-", 0.6), ("theirs", ":", 0.5)), strict=True
    ):
        line, _, (spans,) = bars.lines
        assert (bars.get_label(), line.get_linestyle()) == (name, style)
        np.testing.assert_allclose(np.asarray(line.get_xdata(), float), [5, 10, 20], rtol=0.02)
        np.testing.assert_allclose(line.get_ydata(), mean + np.array([0.05, 0.1, 0.2]))
        for segment in spans.get_segments():
            assert segment[:, 1].tolist() == pytest.approx([mean - 0.1, mean + 0.3])


@pytest.mark.parametrize("more", [{}, {"ci_low": 0.2, "ci_high": 0.9}, {"ci_low": None, "ci_high": None}])
def test_models_stand_best_first_with_their_interval(more: dict[str, Any]) -> None:
    """Ours in a colour of its own, whatever its name; without an interval one standard deviation."""
    rows = [
        {"model": name, "kind": kind, "metric": "kappa", "mean": mean, "std": 0.05, **more}
        for name, kind, mean in (("a", "baseline", 0.5), ("b", "linear", 0.7), ("c", "baseline", 0.6))
    ]
    other = {"model": "z", "kind": "fine", "metric": "auroc", "mean": 0.99}
    axes: Any = figures.evaluation_scores([*rows, other], "kappa").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b", "c", "a"]
    assert axes.yaxis_inverted()
    colours = []
    for dot, bar, mean in zip(axes.lines, axes.collections, (0.7, 0.6, 0.5), strict=True):
        assert dot.get_xdata()[0] == mean
        low, high = (0.2, 0.9) if more.get("ci_low") else (mean - 0.05, mean + 0.05)
        assert bar.get_segments()[0][:, 0].tolist() == pytest.approx([low, high])
        colours.append(dot.get_color())
    assert colours[1] == colours[2] != colours[0]


def section_tables(section: Section) -> list[list[dict[str, str]]]:
    """Return the rows of every table by the heads of its columns."""
    return [
        [dict(zip(block.head, row, strict=True)) for row in block.rows]
        for block in section.blocks
        if block.kind == "table"
    ]


def test_facts_of_stores_stand_at_the_store(tmp_path: Path) -> None:
    stores = [
        {
            "store": f"s{i}", "n_recordings": 10 + i, "n_train_subjects": 20 + i, "n_val_subjects": 30 + i,
            "n_train_windows": 40 + i, "n_val_windows": 50 + i, "share": 0.25 * (i + 1),
            "ch_names": list(NAMES[: i + 1]), "licence": ("CC0", None)[i],
        }
        for i in range(2)
    ]  # fmt: skip
    ((first, second),) = section_tables(sections.data_section(ReportData("r", {"data": {"stores": stores}})))
    assert list(first.values()) == ["s0", "10", "20, 30", "40, 50", "25%", "1: Fp1", "CC0"]
    assert list(second.values()) == ["s1", "11", "21, 31", "41, 51", "50%", "2: Fp1, Fp2", "not stated"]
    assert list(first)[2:4] == ["people: train, validation", "windows: train, validation"]


def scored(classes: list[str], seeds: dict[str, int], y: np.ndarray, **more: Any) -> Probe:
    """Return a probe with predictions of several protocols and seeds."""
    scores = {p: [RNG.dirichlet(np.ones(len(classes)), len(y)) for _ in range(n)] for p, n in seeds.items()}
    who = np.arange(len(y)) % 3
    return Probe("p", task={"classes": classes}, scores=scores, y_true=y, subject=who.astype(str), **more)


@pytest.mark.parametrize(
    ("n_classes", "positive"), [(2, "“c1” against “c0”"), (3, "each class against the rest")]
)
def test_a_caption_says_of_what_its_figure_is(n_classes: int, positive: str, drawn: dict[str, Any]) -> None:
    """Of how many seeds at most, of which class, and of whom."""
    classes = [f"c{i}" for i in range(n_classes)]
    probe = scored(classes, {"linear": 1, "light": 4}, np.arange(30) % n_classes)
    section = sections.confusion_section(ReportData("r", probes=[probe]))
    confusion, roc, _, people = (b.text for b in section.blocks if b.kind == "figure")
    assert "averaged over 4 seeds" in confusion
    assert roc.startswith(f"ROC of {positive}: ")
    assert "every test subject" in people
    label = drawn["confusion-3"].axes[0].get_xlabel()
    assert label == f"probability given to {'c1' if n_classes == 2 else 'each class'}"
    one = scored(classes, {"linear": 1}, np.arange(30) % n_classes)
    section = sections.confusion_section(ReportData("r", probes=[one]))
    assert "seeds" not in next(block.text for block in section.blocks if block.kind == "figure")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_confusion_counts_truth_by_rows_over_seeds(n_classes: int, drawn: dict[str, Any]) -> None:
    """The shares of a row are of the windows that are of its class, and the counts the mean of the seeds."""
    y = np.repeat(np.arange(n_classes), [12, 7, 5][:n_classes])
    probe = scored([f"c{i}" for i in range(n_classes)], {"light": 3}, y)
    sections.confusion_section(ReportData("r", probes=[probe]))
    counts = np.zeros((n_classes, n_classes))
    for score in probe.scores["light"]:
        for truth, guess in zip(y, score.argmax(1)):
            counts[truth, guess] += 1 / 3
    axes = drawn["confusion-1"].axes[0]
    told = {text.get_position(): text.get_text() for text in axes.texts}
    for row in range(n_classes):
        for column in range(n_classes):
            share, number = told[column + 0.5, row + 0.5].split("\n")
            assert share == f"{counts[row, column] / counts[row].sum():.0%}"
            assert number == f"{counts[row, column]:.0f}"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert axes.yaxis_inverted()
    names = [
        [text.get_text() for text in labels] for labels in (axes.get_xticklabels(), axes.get_yticklabels())
    ]
    assert names == [[f"c{i}" for i in range(n_classes)]] * 2


def test_a_calibration_is_of_the_mean_over_seeds_and_of_all_classes(drawn: dict[str, Any]) -> None:
    y = np.arange(60) % 3
    probe = scored(["a", "b", "c"], {"light": 3}, y)
    sections.confusion_section(ReportData("r", probes=[probe]))
    mean = np.mean(probe.scores["light"], axis=0)
    line = next(line for line in drawn["confusion-3"].axes[0].lines if line.get_label() == "light")
    p, is_class = mean.ravel(), (y[:, None] == np.arange(3)).ravel()
    groups = np.array_split(np.argsort(p, kind="stable"), 8)
    np.testing.assert_allclose(line.get_xdata(), [p[group].mean() for group in groups])
    np.testing.assert_allclose(line.get_ydata(), [is_class[group].mean() for group in groups])


def test_a_class_that_nobody_is_tested_on_is_counted_as_none(drawn: dict[str, Any]) -> None:
    """And a metric whose chance is unknown has none; of unequal seeds the most is told."""
    rows: list[dict[str, Any]] = [
        {"protocol": p, "seed": s, "metrics": {"accuracy": 0.5, "own": 0.25 + s}}
        for p, n in (("linear", 1), ("light", 3))
        for s in range(n)
    ]
    probe = Probe("p", task={"classes": ["a", "b", "c"]}, protocols=rows, y_true=np.array([0, 0, 1, -1]))
    section = sections.downstream_section(ReportData("r", probes=[probe]))
    facts = next(block.rows for block in section.blocks if block.kind == "facts")
    assert ("Test windows", "4 (a 2, b 1, c 0)") in facts
    ((linear, light, chance),) = section_tables(section)
    assert (linear["seeds"], light["seeds"], chance["seeds"]) == ("1", "3", "")
    assert (chance["protocol"], chance["accuracy"], chance["own"]) == ("no skill", "0.667", "–")
    assert light["own"] == f"1.250 ± {np.std([0.25, 1.25, 2.25]):.3f}"


@pytest.mark.parametrize("unit", ["subject", "recording"])
def test_tables_of_an_evaluation_say_over_what_they_are(unit: str, drawn: dict[str, Any]) -> None:
    """Rows and differences under their heads, with as many people or recordings as there were."""
    row = {
        "model": "m", "kind": "linear", "metric": "auroc", "mean": 0.7, "std": 0.1, "ci_low": 0.6,
        "ci_high": 0.8, "n_subjects": 9, "n_recordings": 21, "seeds": [0, 1, 2], "unit": unit,
    }  # fmt: skip
    pair = {
        "a": "m",
        "b": "n",
        "metric": "auroc",
        "difference": -0.05,
        "ci_low": -0.1,
        "ci_high": 0.02,
        "p": 0.25,
    }
    pairs: list[dict[str, Any]] = [
        pair,
        {**pair, "train_subjects": 5},
        {"a": "m", "b": "x", "problem": "x not finished"},
    ]
    section = sections.evaluation_section(ReportData("r", evaluations=[Evaluation("e", [row], pairs)]))
    assert section is not None
    rows, differences = section_tables(section)
    assert rows == [
        {
            "model": "m", "metric": "auroc", "mean": "0.700", "std": "0.100", "interval": "0.600 to 0.800",
            f"{unit}s": str(9 if unit == "subject" else 21), "seeds": "3",
        }
    ]  # fmt: skip
    names = ("difference", "metric", "mean", "interval", "p")
    assert [tuple(found[name] for name in names) for found in differences] == [
        ("m − n", "auroc", "-0.050", "-0.100 to 0.020", "0.250"),
        (f"m − n, 5 {unit}s", "auroc", "-0.050", "-0.100 to 0.020", "0.250"),
        ("m − x", "", "x not finished", "–", "–"),
    ]
    titles = [block.title for block in section.blocks if block.kind == "table"]
    assert titles[0] == "All rows of e"
    assert titles[1].startswith(f"Differences, paired by {unit}")
    assert f"interval over {unit}s" in next(block.text for block in section.blocks if block.kind == "figure")


@pytest.mark.parametrize(("tuned", "options"), [(True, "finetune"), (False, "pretrain")])
def test_a_run_is_told_by_its_own_options_and_command(
    tuned: bool, options: str, drawn: dict[str, Any]
) -> None:
    header = {"finetune": {"lr": 0.25}, "pretrain": {"max_lr": 0.5}, "objective": "x"}
    section = sections.training_section(ReportData("r", header, tuned=tuned))
    assert f"eegm2 {options} with more" in section.then
    ((row,),) = section_tables(section)
    assert [block.title for block in section.blocks if block.kind == "table"] == ["Options of the run"]
    assert row == (
        {"option": "learning rate", "value": "0.25"} if tuned else {"option": "max lr", "value": "0.5"}
    )


@pytest.mark.parametrize(
    ("people", "said"), [(1, "One person only"), (2, "Only 2 subjects"), (19, "Only 19 subjects"), (20, "")]
)
def test_how_few_people_there_are_is_said_once(people: int, said: str) -> None:
    """One is no few; twenty are enough to say nothing."""
    found = [Recording(f"r{i}", f"s{i % people}", "", 60.0, 64.0) for i in range(max(2, people))]
    notes = [b.text for b in sections.summary(ReportData("r", recordings=found)).blocks if b.kind == "note"]
    of_people = [note for note in notes if note.startswith(("One person", "Only"))]
    assert len(of_people) == bool(said)
    assert not said or of_people[0].startswith(said)


def notes_of(**given: Any) -> list[str]:
    """Return what a summary warns of."""
    return [b.text for b in sections.summary(ReportData("r", **given)).blocks if b.kind == "note"]


def people_of(n: int) -> list[Recording]:
    return [Recording(f"r{i}", f"s{i}", "", 60.0, 64.0) for i in range(n)]


@pytest.mark.parametrize(
    ("people", "tested", "said"),
    [(2, 1, True), (30, 1, True), (30, 19, True), (30, 20, False), (1, 1, False), (9, 0, False)],
)
def test_on_how_few_a_score_rests_is_said(people: int, tested: int, said: bool) -> None:
    """Of people; where nobody is told there is nothing to count, and of one person something else is said."""
    who = np.repeat([f"s{i:02d}" for i in range(tested)], 3)
    found = notes_of(recordings=people_of(people), probes=[Probe("p", subject=who)])
    rests = [note for note in found if "rest on" in note]
    assert len(rests) == said
    if said:
        assert f"rest on {tested} test subject{'s' * (tested > 1)}." in rests[0]


@pytest.mark.parametrize(
    ("people", "by", "what"),
    [
        (5, "subject", "unseen people"),
        (1, "subject", "recordings that it did"),
        (5, "recording", "recordings that it did"),
    ],
)
def test_without_validation_it_is_said_of_whom_nothing_is_shown(people: int, by: str, what: str) -> None:
    log = TrainingLog(np.arange(1, 31), {"train_loss": np.ones(30)})
    (note,) = (
        n for n in notes_of(recordings=people_of(people), split_by=by, log=log) if n.startswith("No valid")
    )
    assert what in note
    whole = TrainingLog(np.arange(1, 31), {"train_loss": np.ones(30), "val_loss": np.ones(30)})
    assert not any(n.startswith("No valid") for n in notes_of(recordings=people_of(people), log=whole))


@pytest.mark.parametrize(
    ("epochs", "tuned", "short"), [(1, False, True), (9, False, True), (10, False, False), (3, True, False)]
)
def test_a_short_training_is_one_of_less_than_ten_epochs(epochs: int, tuned: bool, short: bool) -> None:
    log = TrainingLog(np.arange(1, epochs + 1), {"val_loss": np.ones(epochs)})
    found = [note for note in notes_of(log=log, tuned=tuned) if note.startswith("Training was short")]
    assert len(found) == short
    assert not short or f"{epochs} epoch{'s' * (epochs > 1)};" in found[0]


@pytest.mark.parametrize("stores", [None, [], "x", [{"ch_names": None}]])
def test_what_it_was_trained_on_is_told_of_one_store_or_of_several(stores: Any) -> None:
    data = ReportData("r", {"data": {"stores": stores}}, ch_names=NAMES, sfreq_hz=64.0)
    text = next(b.text for b in sections.summary(data).blocks if b.kind == "text")
    of_several = isinstance(stores, list) and bool(stores)
    assert (" of 1 store" if of_several else " of 6 channels at 64 Hz") in text
    assert " of 6 channels" not in text or not of_several
    both = [{"ch_names": ["Fz"]}, {"ch_names": ["Fz", "Cz"]}, {"ch_names": ["Fz"]}]
    data = ReportData("r", {"data": {"stores": both}}, ch_names=NAMES, sfreq_hz=64.0)
    text = next(b.text for b in sections.summary(data).blocks if b.kind == "text")
    assert " of 3 stores, 2 sets of electrodes" in text


def test_without_skill_and_without_windows_nothing_is_made_up(drawn: dict[str, Any]) -> None:
    """The diagonal of a ROC is no skill; a class without windows has no shares; colours go from 0 to 1."""
    y = np.array([0, 0, 1, 1, 0])
    probe = scored(["a", "b", "c"], {"light": 2}, y)
    sections.confusion_section(ReportData("r", probes=[probe]))
    axes = drawn["confusion-1"].axes[0]
    told = {text.get_position(): text.get_text() for text in axes.texts}
    assert [told[column + 0.5, 2.5] for column in range(3)] == ["0%\n0"] * 3
    assert axes.collections[0].get_clim() == (0, 1)
    np.testing.assert_array_equal(np.asarray(axes.collections[0].get_array()).reshape(3, 3)[2], 0)
    roc = drawn["confusion-2"].axes[0]
    dashed = roc.lines[0]
    assert (list(dashed.get_xdata()), list(dashed.get_ydata())) == ([0, 1], [0, 1])
    assert dashed.get_linestyle() == "--"
    assert roc.get_legend().get_title().get_text() == "AUROC (mean ± std)"
    for low, high in (roc.get_xlim(), roc.get_ylim()):
        assert -0.1 < low <= 0 < 1 <= high < 1.1
    assert (roc.get_xlabel(), roc.get_ylabel()) == ("false positive rate", "true positive rate")


@pytest.mark.parametrize(("n_protocols", "n_classes"), [(1, 2), (4, 2), (3, 4)])
def test_every_protocol_has_a_panel_of_its_name(n_protocols: int, n_classes: int) -> None:
    """And no more are seen; in each panel of a ROC a thin line is one seed's."""
    classes = [f"c{i}" for i in range(n_classes)]
    names = [f"p{i}" for i in range(n_protocols)]
    y = np.arange(20) % n_classes
    scores = {p: [RNG.dirichlet(np.ones(n_classes), 20) for _ in range(2)] for p in names}
    matrices = {p: np.full((n_classes, n_classes), float(i)) for i, p in enumerate(names, 1)}
    for figure in (figures.confusion_matrices(matrices, classes), figures.roc_curves(y, scores, classes)):
        shown = [axes for axes in figure.axes if axes.get_visible()]
        assert [axes.get_title(loc="left") for axes in shown] == names
    for name, axes in zip(names, shown):
        shares = [1] if n_classes == 2 else range(n_classes)
        thin: list[Any] = [line for line in axes.lines if line.get_alpha() == 0.35]
        areas = [figures.roc_points(y == c, s[:, c])[2] for c in shares for s in scores[name]]  # type: ignore[index]
        found = [np.trapezoid(np.asarray(line.get_ydata()), np.asarray(line.get_xdata())) for line in thin]
        np.testing.assert_allclose(found, areas)


@pytest.mark.parametrize(("n", "counted"), [(5, True), (6, False)])
def test_a_matrix_names_its_cells_in_their_middle(n: int, counted: bool) -> None:
    """Counts are told where there is room; what is written on dark is white."""
    matrix = np.eye(n) * 3
    axes: Any = figures.confusion_matrices({"m": matrix}, [f"c{i}" for i in range(n)]).axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        assert list(axis.get_ticklocs()) == [i + 0.5 for i in range(n)]
        assert [label.get_text() for label in axis.get_ticklabels()] == [f"c{i}" for i in range(n)]
    texts = {text.get_position(): text for text in axes.texts}
    assert texts[0.5, 0.5].get_text() == ("100%\n3" if counted else "100%")
    assert texts[0.5, 0.5].get_color() == "#ffffff" != texts[1.5, 0.5].get_color()
    assert axes.get_ylim() == (n, 0)


def test_terms_of_an_objective_are_drawn_as_they_were_logged() -> None:
    """Training solid and validation dashed, under the name of the term."""
    curves = {
        "train_loss": np.array([3.0, 2.0]), "train_band_power": np.array([5.0, 4.0]),
        "val_band_power": np.array([7.0, 6.0]), "val_state": np.array([9.0, 8.0]),
    }  # fmt: skip
    figure = figures.loss_curves(np.array([1, 2]), curves)
    lines = named(panel(figure, "Band power"))
    assert {name: list(values) for name, values in lines.items()} == {
        "training": [5, 4],
        "validation": [7, 6],
    }
    assert {name: list(values) for name, values in named(panel(figure, "State")).items()} == {
        "validation": [9, 8],
    }  # fmt: skip


def test_a_map_of_the_representation_is_labelled_by_its_own_windows(
    drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by its class's name, in the order of the classes, and by its person."""
    asked: list[Any] = []

    def draw(points: Any, labels: Any, subjects: Any, names: Any) -> Figure:
        asked.append((labels.tolist(), subjects.tolist()))
        return Figure()

    monkeypatch.setattr(figures, "embedding_map", draw)
    y, who = np.array([2, 0, 1, 0]), np.array(["p", "q", "p", "r"])
    probe = Probe(
        "p",
        task={"classes": ["z", "a", "m"]},
        features=RNG.standard_normal((4, 5)),
        features_y=y,
        features_subject=who,
    )
    section = sections.representation_section(ReportData("r", probes=[probe]))
    assert asked == [(["m", "z", "a", "z"], ["p", "q", "p", "r"])]
    assert "4 windows" in next(block.text for block in section.blocks if block.kind == "figure")


def test_maps_of_a_page_are_of_the_channels_that_were_measured(
    drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power of the classes in their order, of so many windows; weights of the network's channels."""
    asked: list[Any] = []

    def draw(*given: Any, **more: Any) -> Figure:
        asked.append((*given, more))
        return Figure()

    monkeypatch.setattr(figures, "band_power_maps", draw)
    monkeypatch.setattr(figures, "topographic_maps", draw)
    power = ClassPower(np.zeros((2, 1, 6)), ("alpha",), ("y", "x"), NAMES[::-1], 77, 1)
    where = {name: (0.1 * i, 0.2) for i, name in enumerate(NAMES)}
    weights = {"first": np.arange(6.0)}
    data = ReportData("r", ch_names=NAMES, positions=where, class_power=power, electrode_weights=weights)
    section = sections.power_section(data)
    assert section is not None
    assert sections.weights_section(data) is not None
    (names, values, bands, classes, _), (of, shown, _) = asked
    assert (names, bands, classes) == (NAMES[::-1], ("alpha",), ("y", "x"))
    assert values is power.power_db
    assert (of, shown) == (NAMES, weights)
    assert section.blocks[0].text.startswith("Over 77 windows of 1 subject, averaged")


@pytest.mark.parametrize("n_metrics", [1, 2, 3, 4])
def test_scores_stand_at_their_protocols_in_the_panel_of_their_metric(n_metrics: int) -> None:
    """First on top, every seed a tick at its row, all within the panel; what is not known is left out."""
    metrics = ["accuracy", "auroc", "own", "kappa"][:n_metrics]
    rng = np.random.default_rng(n_metrics)
    values = {m: {p: rng.normal(0.3, 0.2, 3).tolist() for p in ("linear", "light")} for m in metrics}
    values[metrics[0]]["light"].append(float("nan"))
    values["nothing"] = {"linear": []}
    chance = {metrics[0]: 0.1, "own": None}
    figure: Any = figures.probe_scores(values, chance)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    names = [figures.METRIC_NAMES.get(m, m) for m in metrics]
    assert [axes.get_title(loc="left") for axes in shown] == names
    assert [text.get_text() for text in shown[0].get_yticklabels()] == ["linear", "light"]
    for metric, axes in zip(metrics, shown):
        assert axes.yaxis_inverted()
        assert {line.get_xdata()[0] for line in axes.lines if line.get_label() == "no skill"} == (
            {0.1} if metric == metrics[0] else set()
        )
        ticks = [line for line in axes.lines if line.get_marker() == "|" and line.get_alpha() == 0.8]
        low, high = axes.get_xlim()
        for row, (line, own) in enumerate(zip(ticks, values[metric].values(), strict=True)):
            kept = [value for value in own if np.isfinite(value)]
            np.testing.assert_array_equal(line.get_xdata(), kept)
            assert {round(y) for y in np.asarray(line.get_ydata())} == {row}
            assert low <= min(kept)
            assert high >= max(kept)
            assert f"{np.mean(kept):.3f} ± {np.std(kept):.3f}" in [text.get_text() for text in axes.texts]
    assert "score on the test subjects" in figure._supxlabel.get_text()


@pytest.mark.parametrize("n_people", [3, 24, 25])
def test_every_person_has_a_place_best_first(n_people: int) -> None:
    """Protocols beside one another at their person; names where there is room for them."""
    who = [f"s{i:02d}" for i in range(n_people)]
    first = np.random.default_rng(0).permutation(n_people) / n_people
    scores = {"a": first, "b": 1 - first, "c": np.full(n_people, 0.5)}
    axes: Any = figures.subject_scores(who, scores).axes[0]
    order = np.argsort(-first)
    for line, values in zip(axes.lines, scores.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), values[order])
        np.testing.assert_array_equal(np.round(np.asarray(line.get_xdata(), float)), np.arange(n_people))
    offsets = [float(line.get_xdata()[0]) for line in axes.lines]
    assert offsets[0] < offsets[1] == 0 < offsets[2]
    assert offsets[0] == -offsets[2]
    shown = [text.get_text() for text in axes.get_xticklabels() if text.get_text()]
    assert shown == ([who[i] for i in order] if n_people <= 24 else [])
    assert (axes.get_ylabel(), axes.get_xlabel().split(",")[0]) == (
        "share of windows correct",
        "test subjects",
    )
    (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
    assert low <= 0 < 1 <= high
    assert left < 0 < n_people - 1 < right
    legend = axes.figure.legends[0]
    assert [text.get_text().split()[0] for text in legend.get_texts()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="arrays differ in length"):
        figures.subject_scores(who[1:], scores)
    with pytest.raises(ValueError, match="no protocol"):
        figures.subject_scores(who, {})


def test_no_skill_is_not_known_of_nothing() -> None:
    """Of no windows, one class or another metric; a class that nobody is tested on is a class."""
    y = np.array([0, 0, 1])
    assert figures.no_skill("accuracy", y[:0], 2) is None
    assert figures.no_skill("accuracy", y, 1) is None
    assert figures.no_skill("own", y, 2) is None
    assert figures.no_skill("accuracy", y[:1], 2) == 1.0
    assert figures.no_skill("auprc", np.zeros(3, int), 2) == 0.0
    assert figures.no_skill("auprc", y, 3) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("n", "thinned"), [(20, False), (21, True)])
def test_channels_left_out_of_a_figure_are_told(n: int, thinned: bool, drawn: dict[str, Any]) -> None:
    x = RNG.standard_normal((2, n, 64))
    data = made(x, x + 1)
    data.ch_names = tuple(f"ch{i}" for i in range(n))
    captions = [block.text for block in sections.spectra_section(data).blocks if block.kind == "figure"]
    assert ("20 of 21 channels" in captions[1]) == thinned
    assert len([axes for axes in drawn["spectra-2"].axes if axes.get_visible()]) == 20
    notes = [block.text for block in sections.reconstruction_section(data).blocks if block.kind == "note"]
    assert any("A low error alone proves little" in note for note in notes)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "yes"), (False, "no"), (None, "not set"), (0.25, "0.25"), (1e-4, "0.0001"), (3, "3"),
        ([1.5, True, "x"], "1.5, yes, x"), ([], "none"), ("a", "a"), ({"a": 1}, '{"a": 1}'),
    ],
)  # fmt: skip
def test_a_setting_is_told_in_words(value: Any, said: str) -> None:
    assert setting(value) == said


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("window_s", "window (s)"), ("notch_hz", "notch (Hz)"), ("reject_uv", "reject (µV)"),
        ("stop_db", "stop (dB)"), ("l_freq_hz", "high-pass edge (Hz)"), ("h_freq_hz", "low-pass edge (Hz)"),
        ("batch_size", "batch size"),
    ],
)  # fmt: skip
def test_an_option_is_told_with_its_unit(key: str, said: str) -> None:
    assert option(key) == said


def test_what_a_map_and_a_timeline_leave_out_is_told(drawn: dict[str, Any]) -> None:
    """Channels without a place; recordings with labels beyond forty, of those that have any."""
    label = ((1.0, 2.0, "x"),)
    found = [Recording(f"r{i}", "s", "", 60.0, 64.0, label * (i % 2)) for i in range(90)]
    data = ReportData("r", ch_names=(*NAMES, "X1", "X2"), recordings=found)
    data.positions = {name: (0.1 * i, 0.2) for i, name in enumerate(NAMES)}
    where, when = (b.text for b in sections.data_section(data).blocks if b.kind == "figure")
    assert "2 channels without a known position left out" in where
    assert "first 40 of 45 recordings" in when
    names = [text.get_text() for text in drawn["data-2"].axes[0].get_yticklabels()]
    assert names == [f"r{i}" for i in range(1, 80, 2)]
    few = ReportData("r", recordings=found[:70])
    (caption,) = (b.text for b in sections.data_section(few).blocks if b.kind == "figure")
    assert "recordings" not in caption.partition(".")[0]


def test_channels_of_a_signal_stand_at_their_names() -> None:
    """Each about its row, the first on top, as many microvolts apart as the title says."""
    rng = np.random.default_rng(0)
    middle = rng.normal(0, 5, (3, 40))
    signal = np.stack([middle - 10, middle + 10], axis=1) + np.array([500.0, 0.0, -300.0])[:, None, None]
    axes: Any = figures.probability_over_time(
        signal, ["A", "B", "C"], 20.0, np.array([[0.0, 2.0]]), np.array([[0.5, 0.5]]), ["a", "b"]
    ).axes[0]
    step = float(axes.get_title(loc="left").split()[2])
    assert step == pytest.approx(60.0, abs=1)
    heights = {text.get_text(): y for text, y in zip(axes.get_yticklabels(), axes.get_yticks())}
    assert heights["A"] > heights["B"] > heights["C"]
    for name, band in zip("ABC", axes.collections, strict=True):
        at = band.get_paths()[0].vertices
        assert np.median(at[:, 1]) == pytest.approx(heights[name], abs=10)
        assert 0 <= at[:, 0].min() < at[:, 0].max() <= 20
