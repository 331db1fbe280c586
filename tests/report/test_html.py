"""The page: complete, self-contained, escaped, and never stopped by what is missing."""

from __future__ import annotations

import dataclasses
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from eegm2.errors import ConfigError
from eegm2.report import figures, sections
from eegm2.report.contents import Evaluation, Recording, Rejected, ReportData, TrainingLog
from eegm2.report.document import Section
from eegm2.report.html import render_report, write_page
from eegm2.report.svg import inline_svg

from .synthetic import probe, reconstruction, recordings, report_data, training_log

HOSTILE = """<script>alert("x")</script>'"&$\\frac{1}{2}$ --></svg>"""


class Page(HTMLParser):
    """Collects tags, attributes and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.data: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.data.append(data)


def test_page_holds_every_section_and_figure(full: str) -> None:
    page = Page(full)
    expected = "summary data quality power training weights reconstruction spectra representation "
    expected += "downstream confusion evaluation provenance"
    sections = [value for tag, name, value in page.attributes if tag == "section" and name == "id"]
    assert sections == expected.split()
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert links == [f"#{name}" for name in sections]
    assert page.tags.count("figure") == full.count("<svg ") == 20
    assert "Figure left out" not in full


def test_every_section_says_what_to_look_at_and_what_to_do_next(full: str) -> None:
    for text in (full, render_report(ReportData(run="empty"))):
        parts = re.findall(r"<section id=.*?</section>", text, re.S)
        assert len(parts) >= 10
        for part in parts:
            look, then = re.findall(r"<dt>(?:Look at|Do next)</dt><dd>(.*?)</dd>", part, re.S)
            for sentence in (look, then):
                assert sentence[0].isupper(), sentence
                assert sentence.endswith("."), sentence
                assert len(sentence.split()) > 5, sentence


def test_a_section_without_them_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="look"):
        Section("id", "title")  # type: ignore[call-arg]


def test_commands_that_sections_name_exist(full: str) -> None:
    from tests.test_docs import GROUP

    named = set(re.findall(r"\beegm2 ([a-z]+)", html.unescape(full)))
    assert {"probe", "compare"} <= named
    assert named <= set(GROUP.commands)


def test_page_is_self_contained_and_small(full: str) -> None:
    page = Page(full)
    assert len(full.encode()) < 3e6
    assert not {"script", "iframe", "object", "embed", "base"} & set(page.tags)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "action", "data"):
            assert value.startswith(("#", "data:")), f"{tag} {name}={value[:60]}"
        assert not name.startswith("on")
    assert "url(" not in re.sub(r"url\(#\w+\)", "", full)
    assert "@import" not in full
    assert "default-src 'none'" in full


def test_ids_are_unique(full: str) -> None:
    ids = Page(full).ids
    assert len(ids) == len(set(ids)) > 20


def test_drawing_is_repeatable() -> None:
    data = training_log(5)
    first, second, other = (
        inline_svg(figures.loss_curves(data.epoch, data.curves), key) for key in ("a", "a", "b")
    )
    assert first == second
    assert not set(Page(first).ids) & set(Page(other).ids)


def test_hostile_names_stay_text() -> None:
    data = report_data()
    data.run = data.command = HOSTILE
    data.ch_names = (HOSTILE, *data.ch_names[1:])
    data.positions = {HOSTILE: (0.0, 0.0)}
    data.header = {HOSTILE: HOSTILE, **data.header, "commit": HOSTILE, "pretrain": {HOSTILE: HOSTILE}}
    data.recordings = [
        dataclasses.replace(r, id=HOSTILE, subject=HOSTILE, labels=((0.0, 9.0, HOSTILE), (10.0, 9.0, "b")))
        for r in recordings(2)
    ]
    data.rejected = [Rejected(HOSTILE, HOSTILE)]
    made = reconstruction(3)
    data.reconstruction = dataclasses.replace(
        made, subjects=(HOSTILE,) * 3, recordings=(HOSTILE,) * 3, unit=HOSTILE
    )
    bad = probe((HOSTILE, "b"), n_subjects=2)
    data.probes = [
        dataclasses.replace(
            bad,
            name=HOSTILE,
            subject=np.array([HOSTILE] * len(bad.subject)),
            features_subject=np.where(bad.features_subject == "000", HOSTILE, "c"),
            scores={HOSTILE: bad.scores["linear"]},
            protocols=[{"protocol": HOSTILE, "seed": 0, "metrics": {HOSTILE: 0.5, "auroc": 0.6}}],
            problems=(HOSTILE,),
        )
    ]
    data.evaluations = [Evaluation(HOSTILE, [{"model": HOSTILE, "metric": HOSTILE, "mean": 0.5}])]
    data.missing = {"store": HOSTILE, "probes": HOSTILE}
    text = render_report(data)
    page = Page(text)
    assert "<script" not in text
    assert "script" not in page.tags
    assert text.count("</svg>") == text.count("<svg ")
    assert sum("<script>alert" in chunk for chunk in page.data) > 15  # shown, as text
    assert "Figure left out" not in text


def test_a_run_with_nothing_says_so() -> None:
    text = render_report(ReportData(run="empty"))
    page = Page(text)
    for sentence in (
        "No probe has been run on this model yet",
        "The run holds no training log",
        "No reconstruction was made",
        "No store was read",
        "there is no confusion matrix",
    ):
        assert any(sentence in chunk for chunk in page.data), sentence
    assert "figure" not in page.tags


@pytest.mark.parametrize(
    ("n_subjects", "words"),
    [(1, "One person only"), (5, "Only 5 subjects"), (30, "")],
)
def test_few_subjects_are_stated(n_subjects: int, words: str) -> None:
    data = ReportData(
        run="r", recordings=[Recording(f"r{i}", f"{i}", "", 60.0, 128.0) for i in range(n_subjects)]
    )
    text = render_report(data)
    if words:
        assert words in text
    else:
        assert "One person only" not in text
        assert "Only " not in text


def test_values_that_cannot_be_drawn_cost_one_figure_only() -> None:
    broken = probe()
    assert broken.features is not None
    broken = dataclasses.replace(broken, features=np.full_like(broken.features, np.nan))
    log = TrainingLog(np.arange(2), {"train_loss": np.full(2, np.nan)})
    text = render_report(ReportData(run="r", log=log, probes=[broken]))
    assert "No map for probe-eyes: the features hold NaN or infinite values." in text
    assert "Figure left out (loss curves): no loss curve holds a finite value" in text
    assert Page(text).tags.count("figure") == 5  # scores, confusion, ROC, calibration, persons


@pytest.mark.slow
def test_many_classes_channels_and_recordings_fit() -> None:
    data = ReportData(run="r", sfreq_hz=128.0, recordings=recordings(150))
    data.probes = [probe(tuple(f"class {i}" for i in range(6)), n_subjects=30)]
    data.ch_names = tuple(f"E{i}" for i in range(64))
    data.reconstruction = reconstruction(2, 6_400, 64)
    text = render_report(data)
    assert len(text.encode()) < 3e6
    assert "Figure left out" not in text


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "report.html"
    write_page(out, "first")
    assert out.read_text() == "first"

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ConfigError, match=r"report\.html: cannot write the report there \(No space left"):
        write_page(out, "second")
    assert out.read_text() == "first"
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the report there .*choose another --out"):
        write_page(tmp_path / "file" / "report.html", "text")


def test_each_map_says_what_its_features_are() -> None:
    plain = probe(n_subjects=3)
    other = dataclasses.replace(plain, provenance={"config": {"features": "covariance"}})
    data = ReportData(run="r", sfreq_hz=128.0, probes=[plain, other])

    def captions() -> list[str]:
        return [block.text for block in sections.representation_section(data, "pca").blocks]

    said = [
        "covariance" if "the covariance" in text else "statistics"
        for text in captions()
        if "the covariance" in text or "the nine statistics over time" in text
    ]
    assert list(dict.fromkeys(said)) == ["statistics", "covariance"]
    data.probes = data.probes[:1]
    assert not any("the covariance" in text for text in captions())


def test_every_kind_of_features_has_words_of_its_own() -> None:
    """What the usual kind of a network is called must not be said of another's."""
    from eegm2.model.features import KINDS
    from eegm2.report.sections.representation import _features

    said = {
        kind: _features(dataclasses.replace(probe(), provenance={"config": {"features": kind}}))
        for kind in KINDS
    }
    assert len(set(said.values())) == len(KINDS)
    assert [kind for kind, words in said.items() if "nine statistics" in words] == ["statistics"]
    assert _features(dataclasses.replace(probe(), provenance={})) == said["statistics"]
