"""Each figure draws what it is given, with units, and refuses what it cannot draw."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from eegm2.report import figures
from eegm2.report.figures.style import FIRST, MUTED, clean_text, number, spread_pick

from .synthetic import CH_NAMES, XY, eeg, evaluation, probe, recordings, training_log


def texts(figure: Figure) -> list[str]:
    """Every text drawn in a figure."""
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def test_loss_curves_draw_the_values_against_epochs_from_one() -> None:
    log = training_log(12)
    figure = figures.loss_curves(log.epoch, log.curves)
    total = figure.axes[0]
    x, y = total.lines[0].get_data()
    np.testing.assert_array_equal(x, np.arange(1, 13))
    np.testing.assert_array_equal(y, log.curves["train_loss"])
    best = int(np.argmin(log.curves["val_loss"]))
    assert any(text.startswith("lowest") and text.endswith(f"epoch {best + 1}") for text in texts(figure))
    rate = figure.axes[3]
    np.testing.assert_allclose(rate.lines[0].get_ydata(), log.curves["lr"] * 1e4)
    assert rate.get_ylabel() == "learning rate (× 10⁻⁴)"


def test_loss_curves_leave_out_what_was_not_logged() -> None:
    nan = np.full(3, np.nan)
    figure = figures.loss_curves(np.arange(3), {"train_loss": np.ones(3), "val_loss": nan, "lr": nan})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Total loss"]
    with pytest.raises(ValueError, match="no loss curve holds a finite value"):
        figures.loss_curves(np.arange(3), {"val_loss": nan})


def test_traces_carry_channel_names_scale_and_correlation() -> None:
    x = eeg(np.random.default_rng(0), 1, 14, 512)[0]
    figure = figures.reconstruction_traces(x, 0.5 * x, CH_NAMES, 128.0, unit="µV")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CH_NAMES)
    assert axes.get_xlabel().endswith("(s)")
    assert sum(text == "1.000" for text in texts(figure)) == 14  # r does not see the halved size
    assert any(text.endswith(" µV") for text in texts(figure))
    original, made = axes.lines[0].get_ydata(), axes.lines[1].get_ydata()
    assert np.ptp(made) == pytest.approx(0.5 * np.ptp(original), rel=1e-6)


def test_traces_of_a_long_window_of_many_channels_are_thinned() -> None:
    x = np.random.default_rng(0).standard_normal((64, 12_800))
    figure = figures.reconstruction_traces(x, x, [f"E{i}" for i in range(64)], 128.0)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    assert len(lines) == 40
    assert {len(line.get_xdata()) for line in lines} == {640}
    fast = figures.reconstruction_traces(x, x, [f"E{i}" for i in range(64)], 1024.0)
    assert figure.axes[0].get_rasterization_zorder() is None
    assert fast.axes[0].get_rasterization_zorder() == 1


def test_traces_refuse_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match=r"original \(2, 100\), reconstruction \(2, 99\)"):
        figures.reconstruction_traces(np.zeros((2, 100)), np.zeros((2, 99)), ["a", "b"], 128.0)


def test_correlation_is_pearson_and_nan_for_a_flat_channel() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 200))
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b)]
    np.testing.assert_allclose(figures.channel_correlation(a, b), expected)
    assert np.isnan(figures.channel_correlation(np.ones((1, 50)), a[:1, :50]))


def test_welch_finds_a_sine_and_its_power() -> None:
    time_s = np.arange(0, 8, 1 / 128)
    frequency, db = figures.welch_db(3 * np.sin(2 * np.pi * 10 * time_s), 128.0)
    assert frequency[np.argmax(db)] == 10.0
    power = (10 ** (db / 10)).sum() * (frequency[1] - frequency[0])
    assert power == pytest.approx(3**2 / 2, rel=0.01)


def test_spectra_draw_medians_in_decibels() -> None:
    x = eeg(np.random.default_rng(0), 6, 14, 512)
    frequency, a = figures.welch_db(x, 128.0)
    figure = figures.power_spectra(frequency, a, a - 3.0, unit="µV")
    left, right = figure.axes
    assert left.get_ylabel() == "power density (dB re (µV)²/Hz)"
    assert left.get_xlabel() == "frequency (Hz)"
    np.testing.assert_allclose(left.lines[0].get_ydata(), np.median(a.reshape(-1, a.shape[-1]), axis=0))
    np.testing.assert_allclose(right.lines[1].get_ydata(), -3.0)
    small = figures.channel_spectra(frequency, a, a, CH_NAMES)
    assert [axes.get_title(loc="left") for axes in small.axes if axes.get_visible()] == list(CH_NAMES)


def test_channel_error_draws_medians_over_windows() -> None:
    mse = np.arange(1.0, 16.0).reshape(5, 3)
    figure = figures.channel_error(["a", "b", "c"], mse, mse / 20)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), np.median(mse, axis=0))
    np.testing.assert_allclose(figure.axes[1].lines[0].get_xdata(), np.median(mse, axis=0) / 20)


def test_projection_separates_what_is_separate_and_names_variance() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 30)) * 0.1 + np.repeat([0.0, 5.0], 30)[:, None]
    points, names = figures.project(x)
    assert points.shape == (60, 2)
    assert abs(points[:30, 0].mean() - points[30:, 0].mean()) > 5 * points[:30, 0].std()
    assert "% of variance" in names[0]
    tsne, tsne_names = figures.project(x, "tsne")
    assert tsne.shape == (60, 2)
    assert tsne_names[0] == "t-SNE 1 (no unit)"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((2, 5)), "at least three windows, got 2"),
        (np.full((5, 5), np.nan), "NaN or infinite"),
        (np.ones((5, 5)), "only 0 of 5 features vary"),
    ],
)
def test_projection_refuses(features: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figures.project(features)


def test_maps_draw_every_window_and_name_every_group() -> None:
    made = probe(n_subjects=5)
    assert made.features is not None
    points, names = figures.project(made.features)
    labels = np.array(made.classes)[made.features_y]
    figure = figures.embedding_map(points, labels, made.features_subject, names)
    drawn = [sum(len(c.get_offsets()) for c in axes.collections) for axes in figure.axes]
    assert drawn == [300, 300]
    assert {"eyes closed", "eyes open", "000", "004"} <= set(texts(figure))
    small = figures.subject_maps(points, labels, made.features_subject, names)
    assert sum(axes.get_visible() for axes in small.axes) == 5
    with pytest.raises(ValueError, match="arrays differ in length"):
        figures.embedding_map(points, labels[:-1], made.features_subject, names)


@pytest.mark.parametrize("ties", [False, True])
def test_roc_area_is_that_of_scikit_learn(ties: bool) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    score = y + rng.standard_normal(300)
    score = np.round(score) if ties else score
    curve = figures.roc_points(y == 1, score)
    assert curve is not None
    assert curve[2] == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert curve[0][0] == curve[1][0] == 0
    assert curve[0][-1] == curve[1][-1] == 1


def test_roc_needs_both_classes() -> None:
    assert figures.roc_points(np.ones(4, bool), np.arange(4.0)) is None
    with pytest.raises(ValueError, match="no class has both members"):
        figures.roc_curves(np.zeros(4, int), {"linear": [np.ones((4, 2))]}, ["a", "b"])


def test_roc_legend_states_the_mean_area_over_seeds() -> None:
    made = probe()
    figure = figures.roc_curves(made.y_true, made.scores, made.classes)
    areas = [roc_auc_score(made.y_true, s[:, 1]) for s in made.scores["linear"]]
    assert f"eyes open  {np.mean(areas):.3f} ± {np.std(areas):.3f}" in texts(figure)
    three = probe(("a", "b", "c"))
    names = [t.split("  ")[0] for t in texts(figures.roc_curves(three.y_true, three.scores, three.classes))]
    assert {"a", "b", "c"} <= set(names)


def test_confusion_shows_row_shares_and_counts() -> None:
    matrix = np.array([[30.0, 10.0], [5.0, 15.0]])
    found = texts(figures.confusion_matrices({"linear": matrix}, ["closed", "open"]))
    assert {"75%\n30", "25%\n10", "75%\n15", "predicted", "true"} <= set(found)
    empty_row = figures.confusion_matrices({"linear": np.array([[0.0, 0.0], [1.0, 3.0]])}, ["a", "b"])
    assert "0%\n0" in texts(empty_row)
    with pytest.raises(ValueError, match=r"is \(2, 2\), with 3 classes"):
        figures.confusion_matrices({"linear": matrix}, ["a", "b", "c"])


def test_probe_scores_state_mean_and_spread_and_the_score_without_skill() -> None:
    figure = figures.probe_scores({"auroc": {"linear": [0.7, 0.8], "light": [0.9]}}, {"auroc": 0.5})
    assert {"0.750 ± 0.050", "0.900", "AUROC"} <= set(texts(figure))
    assert any(list(line.get_xdata()) == [0.5, 0.5] for line in figure.axes[0].lines)
    with pytest.raises(ValueError, match="no scores"):
        figures.probe_scores({"auroc": {"linear": []}})


def test_no_skill_is_what_a_constant_answer_reaches() -> None:
    from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

    y = np.array([0] * 70 + [1] * 30)
    constant = np.zeros(100, int)
    assert figures.no_skill("accuracy", y, 2) == accuracy_score(y, constant)
    assert figures.no_skill("weighted_f1", y, 2) == pytest.approx(
        f1_score(y, constant, average="weighted", zero_division=0)
    )
    assert figures.no_skill("kappa", y, 2) == cohen_kappa_score(y, constant)
    assert figures.no_skill("auprc", y, 2) == 0.3
    assert figures.no_skill("balanced_accuracy", y, 2) == 0.5
    assert figures.no_skill("something", y, 2) is None


def test_subject_scores_are_means_per_person_best_first() -> None:
    figure = figures.subject_scores(["a", "a", "b", "b"], {"linear": np.array([1, 0, 1, 1])})
    axes = figure.axes[0]
    assert list(axes.lines[0].get_ydata()) == [1.0, 0.5]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["b", "a"]


def test_evaluation_orders_models_and_draws_intervals() -> None:
    rows = evaluation().rows
    figure = figures.evaluation_scores(rows, "auroc")
    kept = sorted((r for r in rows if r["metric"] == "auroc"), key=lambda r: -r["mean"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [r["model"] for r in kept]
    first = figure.axes[0].collections[0].get_segments()[0]
    np.testing.assert_allclose(first[:, 0], [kept[0]["ci_low"], kept[0]["ci_high"]])
    with pytest.raises(ValueError, match="no row holds the metric 'kappa'"):
        figures.evaluation_scores(rows, "kappa")


def test_evaluation_tells_other_methods_by_their_kind_and_not_by_name() -> None:
    rows = [{"model": "fine", "kind": "baseline", "metric": "auroc", "mean": 0.6}]
    rows.append({"model": "mine", "kind": "light", "metric": "auroc", "mean": 0.7})
    blue, grey = (line.get_color() for line in figures.evaluation_scores(rows, "auroc").axes[0].lines[:2])
    assert (blue, grey) == (FIRST, MUTED)


def test_learning_curves_draw_each_model_once_over_the_people_it_learnt_from() -> None:
    rows = [
        {"model": f"{name}, {count} subjects", "kind": kind, "metric": "auroc", "mean": mean}
        | {"ci_low": mean - 0.1, "ci_high": mean + 0.05, "train_subjects": count}
        for name, kind, start in (("fine", "fine", 0.6), ("band_power", "baseline", 0.7))
        for count, mean in ((20, start + 0.1), (5, start))
    ]
    axes = figures.learning_curves([*rows, {"model": "x", "metric": "auroc", "mean": 1.0}], "auroc").axes[0]
    drawn = axes.containers
    assert [container.get_label() for container in drawn] == ["fine", "band_power"]
    for container, start in zip(drawn, (0.6, 0.7)):
        line, _, (bars,) = container.lines
        np.testing.assert_allclose(line.get_ydata(), [start, start + 0.1])
        np.testing.assert_allclose(np.array(line.get_xdata(), float), [5, 20], rtol=0.05)
        np.testing.assert_allclose(np.array(bars.get_segments()[0])[:, 1], [start - 0.1, start + 0.05])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["5", "20"]
    with pytest.raises(ValueError, match="no row holds the metric 'auroc'"):
        figures.learning_curves([{"model": "x", "metric": "auroc", "mean": 1.0}], "auroc")


def test_channel_positions_draw_every_channel() -> None:
    figure = figures.channel_positions(
        CH_NAMES, np.array([XY[n] for n in CH_NAMES]), np.arange(14.0), value_name="r"
    )
    np.testing.assert_allclose(figure.axes[0].collections[0].get_offsets(), [XY[n] for n in CH_NAMES])
    assert set(CH_NAMES) <= set(texts(figure))


@pytest.mark.parametrize("n", [1, 12, 200])
def test_quality_overview_has_one_row_per_recording(n: int) -> None:
    rng = np.random.default_rng(0)
    bounds = np.stack([-rng.uniform(50, 90, n), rng.uniform(50, 90, n)], axis=1)
    bounds[-1, 1] = 9000.0
    figure = figures.quality_overview(
        [f"r{i}" for i in range(n)], np.full(n, 300.0), bounds, np.zeros(n), {"flat": np.ones(n)}
    )
    assert len(figure.axes[0].patches) == n
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels[0] == "duration (min)"
    assert "µV" in labels[1]
    assert "dB" in labels[2]
    assert figure.get_figheight() < 9


def test_label_timeline_draws_every_span() -> None:
    found = recordings(3)
    figure = figures.label_timeline(
        [r.id for r in found], np.array([r.duration_s for r in found]), [r.labels for r in found]
    )
    drawn = sum(len(c.get_paths()) for c in figure.axes[0].collections if hasattr(c, "set_verts"))
    assert drawn >= 6
    with pytest.raises(ValueError, match="no recording is labelled"):
        figures.label_timeline(["a"], np.array([1.0]), [()])


def test_drawing_leaves_pyplot_and_the_global_settings_alone() -> None:
    code = (
        "import sys, numpy as np, matplotlib as mpl; before = mpl.rcParams.copy()\n"
        "from eegm2.report import figures\n"
        "figures.loss_curves(np.arange(3), {'train_loss': np.ones(3)})\n"
        "print('matplotlib.pyplot' in sys.modules, mpl.rcParams.copy() == before)"
    )
    paths = [path for path in sys.path if path]
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert result.stdout.split() == ["False", "True"]


def test_names_are_made_printable() -> None:
    assert clean_text("a\x00b\nc") == "a b c"
    assert clean_text("x" * 50, 9) == "xxxx…xxxx"
    assert number(0.000012) == "1.20e-05"
    assert number(float("nan")) == "–"
    assert list(spread_pick(5, 8)) == [0, 1, 2, 3, 4]
    assert list(spread_pick(100, 3)) == [0, 50, 99]


def test_scores_say_where_no_skill_is_and_leave_out_what_a_protocol_has_none_of() -> None:
    figure = figures.probe_scores({"auroc": {"linear": [0.7, 0.8], "light": []}}, {"auroc": 0.5})
    (axes,) = [axes for axes in figure.axes if axes.lines]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["no skill"].get_xdata()) == [0.5, 0.5]
    assert any(list(line.get_xdata()) == [0.7, 0.8] for line in axes.lines)
    assert all(np.isfinite(np.asarray(line.get_xdata(), float)).all() for line in axes.lines)
    assert axes.get_xlim()[0] < 0.5
    assert axes.get_xlim()[1] > 0.8
