"""The page of ``eegm2 predict``: answers over time above the signal, maps, quality, and what was skipped."""

from __future__ import annotations

import datetime
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from eegm2.errors import DataError
from eegm2.report.document import Section
from eegm2.words import count

MOST_DRAWN = 24
PAGE = "report.html"


def write_prediction_page(folder: str | Path, *, command: str = "") -> Path:
    """Write ``report.html`` into a folder of ``eegm2 predict``.

    Parameters
    ----------
    folder : str or Path
        Holds predictions.json and recordings/.
    command : str
        Recorded in the page.

    Raises
    ------
    DataError
        If the folder holds no predictions.
    """
    from eegm2.report.html import render_page, write_page

    folder = Path(folder)
    document = read_predictions(folder)
    found = document["recordings"]
    arrays = [arrays_of(folder, facts) for facts in found]
    parts = [
        _summary(document),
        _over_time(document, arrays),
        _band_power(document, arrays),
        _reaction(document),
        _quality(document),
        _provenance(document, command),
    ]
    created = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    title = f"Predictions: {_asked(document['model'])}"
    return write_page(folder / PAGE, render_page(title, [part for part in parts if part], created))


def read_predictions(folder: Path) -> dict[str, Any]:
    """Return what predictions.json holds.

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    try:
        document: dict[str, Any] = json.loads((folder / "predictions.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}: holds no predictions ({error}); run eegm2 predict --out {folder}"
        ) from error
    return document


def sections_of(folder: Path, title: str) -> list[Section]:
    """Return what a page says of predictions over time, band power and reactions, for use in another page."""
    document = read_predictions(folder)
    arrays = [arrays_of(folder, facts) for facts in document["recordings"]]
    time = _over_time(document, arrays)
    time.title = title
    return [part for part in (time, _band_power(document, arrays), _reaction(document)) if part]


def arrays_of(folder: Path, facts: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return what is kept of one recording to be drawn."""
    with np.load(folder / "recordings" / f"{facts['file']}.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _asked(model: dict[str, Any]) -> str:
    """Return what was predicted, in words."""
    value = model.get("value")
    return str(value["target"]) if value else " against ".join(model["classes"])


def _others(facts: dict[str, Any]) -> str:
    """Return of what a head was judged: other people, or only other recordings of the same ones."""
    return "recordings of the same people" if facts.get("by") == "recording" else "people"


def _named(value: dict[str, str]) -> str:
    """Return a value's name with its unit."""
    return f"{value['target']} ({value['unit']})" if value["unit"] else value["target"]


def _summary(document: dict[str, Any]) -> Section:
    section = Section(
        "summary",
        "Summary",
        look="Recordings whose windows scatter widely, and those with many flagged windows."
        if document["model"].get("value")
        else "Recordings whose mean probability is near the threshold, and those with many flagged windows.",
        then="Look at these over time below, and mend or leave out what is flagged.",
    )
    found, model = document["recordings"], document["model"]
    classes, value = model["classes"], model.get("value")
    n_windows = sum(facts["n_windows"] for facts in found)
    flagged = sum(facts["n_flagged"] for facts in found)
    section.tiles(
        [
            (str(len(found)), "recordings"),
            (f"{sum(facts['duration_s'] for facts in found) / 60:.1f} min", "of EEG"),
            (str(n_windows), f"windows of {model['window_s']:g} s"),
            (f"{flagged / max(n_windows, 1):.0%}", "of them flagged"),
            (str(len(document["skipped"])), "recordings skipped"),
        ]
    )
    learnt = model.get("n_people_learnt_from")
    test = model["facts"].get("test", {})
    spelt = {"mae": "a mean absolute error of", "r2": "an R² of"}
    judged = ", ".join(f"{spelt.get(k, k.replace('_', ' '))} {number:.3f}" for k, number in test.items())
    section.text(
        f"The head '{model['head']}' "
        + (f"predicts the value {value['target']}" if value else f"tells {' from '.join(classes)}")
        + (f"; it learnt from {count(learnt, 'subject')}" if learnt else "")
        + (f", and on {_others(model['facts'])} it had not seen had {judged} per window." if judged else ".")
    )
    if value:
        _value_table(section, found, model)
    else:
        _class_table(section, found, classes)
    for name, reason in document["skipped"].items():
        section.note(f"Skipped: {name}: {reason}")
    return section


def _value_table(section: Section, found: list[dict[str, Any]], model: dict[str, Any]) -> None:
    """Add a row per recording: the mean value of its windows, and how far they scatter."""
    from eegm2.deploy.predict.tables import in_units

    value = model["value"]
    rows = [
        (
            facts["recording"],
            in_units(facts["value"], value),
            in_units(facts["value_sd"], value),
            f"{facts['n_flagged']} of {facts['n_windows']}",
        )
        for facts in found
    ]
    section.table(["recording", f"mean {value['target']}", "SD over windows", "flagged"], rows)


def _class_table(section: Section, found: list[dict[str, Any]], classes: list[str]) -> None:
    """Add a row per recording: decision, mean probabilities and shares of windows."""
    _say_agreement(section, found)
    rows = [
        (
            facts["recording"],
            facts["decision"],
            *(f"{p:.3f}" for p in facts["probabilities"]),
            *(f"{facts['shares'][name]:.0%}" for name in classes),
            f"{facts['n_flagged']} of {facts['n_windows']}",
        )
        for facts in found
    ]
    head = ["recording", "decided as a whole", *(f"mean p({name})" for name in classes)]
    section.table([*head, *(f"windows {name}" for name in classes), "flagged"], rows)


def _say_agreement(section: Section, found: list[dict[str, Any]]) -> None:
    """Say how often windows with a label were decided as labelled."""
    rows = [row for facts in found for row in facts["windows"] if row["label"] in facts["shares"]]
    if not rows:
        return
    right = np.mean([row["label"] == row["decision"] for row in rows])
    section.text(
        f"{len(rows)} windows carry an annotation of one of the classes; {right:.1%} of them were decided "
        "so. The prediction itself has not looked at annotations."
    )


def over_time_figure(
    document: dict[str, Any], facts: dict[str, Any], stored: dict[str, np.ndarray]
) -> Figure:
    """Return signal, spectrogram and probabilities of one recording over time."""
    from eegm2.report.figures import probability_over_time

    model, windows = document["model"], facts["windows"]
    key = "value" if model.get("value") else "probabilities"
    return probability_over_time(
        stored["signal"],
        stored["shown"].tolist(),
        facts["duration_s"],
        np.array([[row["start_s"], row["stop_s"]] for row in windows]),
        np.array([row[key] for row in windows], float).reshape(len(windows), -1),
        model["classes"],
        labels=[row["label"] for row in windows],
        flagged=np.array([bool(row["flags"]) for row in windows]),
        threshold=model["threshold"],
        spectrum=(stored["frequency_hz"], stored["change_db"]),
        value_name=_named(model["value"]) if model.get("value") else "",
    )


def _over_time(document: dict[str, Any], arrays: list[dict[str, np.ndarray]]) -> Section:
    from eegm2.deploy.predict.tables import in_units

    value = document["model"].get("value")
    answer = "value" if value else "probability"
    section = Section(
        "time",
        "Over time",
        look=f"Whether the {answer} follows a rhythm of the spectrogram, or an artefact in the signal "
        "above it.",
        then="Leave out what follows artefacts; where the line "
        f"{'scatters' if value else 'hovers at the threshold'}, take longer windows or more people.",
    )
    found = document["recordings"]
    section.text(
        "From above: the signal, its spectrogram (power relative to the median of each frequency, so that "
        f"what comes and goes is seen), and the {answer} for each window. "
        + ("" if value else "Shading shows annotations of the classes where the recording has them. ")
        + "Grey ticks below mark windows to doubt."
    )
    for facts, stored in list(zip(found, arrays))[:MOST_DRAWN]:
        section.heading(facts["recording"])
        for warning in facts["warnings"]:
            section.note(warning)
        section.figure(
            partial(over_time_figure, document, facts, stored),
            caption=f"{facts['recording']}: {in_units(facts['value'], value)} in the mean."
            if value
            else f"{facts['recording']}: decided as {facts['decision']} as a whole.",
            alt=f"Signal and {answer} over time",
        )
    if len(found) > MOST_DRAWN:
        section.note(f"{len(found) - MOST_DRAWN} more recordings are in recordings.csv and not drawn.")
    return section


def _band_power(document: dict[str, Any], arrays: list[dict[str, np.ndarray]]) -> Section | None:
    from eegm2.report.figures.topography import band_power_maps

    classes, found = document["model"]["classes"], document["recordings"]
    if not classes:
        return None
    names = arrays[0]["ch_names"].tolist()
    same = [i for i, stored in enumerate(arrays) if stored["ch_names"].tolist() == names]
    bands = arrays[0]["bands"].tolist()
    means: list[np.ndarray] = []
    for name in classes:
        of_class = [
            arrays[i]["band_power"][[row["decision"] == name for row in found[i]["windows"]]] for i in same
        ]
        of_class = [values.mean(0) for values in of_class if len(values)]
        means.append(np.mean(of_class, axis=0) if of_class else np.full((len(names), len(bands)), np.nan))
    section = Section(
        "power",
        "Band power where each class was decided",
        look="What differs between the classes, and whether it is brain, and not muscle (gamma at the rim) "
        "or eyes (delta at the front).",
        then="Where it is muscle or eyes, mend the recordings first: the head has learnt the artefact.",
    )
    if not any(np.isfinite(mean).all() for mean in means):
        return None
    section.text(
        "Power of each rhythm over the head, averaged over the windows decided as each class: what differs "
        "from row to row within a column is what differs between the classes."
    )
    power_db = 10 * np.stack(means).transpose(0, 2, 1)
    section.figure(
        lambda: band_power_maps(names, power_db, bands, classes),
        caption=f"Mean over {len(same)} recordings; each column has its own scale.",
        alt="Maps of band power per class",
    )
    return section


def _reaction(document: dict[str, Any]) -> Section | None:
    from eegm2.report.figures.predictions import band_reactions
    from eegm2.report.figures.topography import topographic_maps

    found, classes = document.get("reactions"), document["model"]["classes"]
    if not found:
        return None
    value = document["model"].get("value")
    answers = [_named(value)] if value else [f"the log odds of {name}" for name in classes]
    section = Section(
        "reaction",
        "What the model reacts to",
        look="Whether rhythms and places are those that are known for "
        f"{'this value' if value else 'these classes'}; one strong channel may be an artefact.",
        then="Look at the signal of the strongest channel above, and predict again without it if it is bad.",
    )
    section.text(
        f"By occlusion, in {count(found['n_windows'], 'window')}: each channel is replaced by the mean of "
        "its three nearest neighbours, and each rhythm is halved in all channels. Drawn is how far "
        + (
            "the value falls by that: red (blue bars) raised it, blue (orange bars) lowered it. "
            if value
            else "the log odds of a class fall by that: red (blue bars) spoke for the class, blue (orange "
            "bars) against it. "
        )
        + "It says what moves this model's answer, not where a source lies."
    )
    drawn = [1] if len(classes) == 2 else list(range(len(answers)))
    titles = [value["target"]] if value else classes
    section.figure(
        lambda: topographic_maps(
            found["ch_names"],
            {titles[i]: np.array(found["channels"][i]) for i in drawn},
            value_name=f"fall of {answers[0]}" if value else "fall of the log odds",
            signed=True,
        ),
        caption="By channel.",
        alt="Map of the channels the model reacts to",
    )
    for i in drawn[:4]:
        section.figure(
            lambda i=i: band_reactions(  # type: ignore[misc]
                found["band_names"], np.array(found["bands"][i]), answers[i]
            ),
            caption=f"By rhythm, for {titles[i]}.",
            alt="Bars of the rhythms the model reacts to",
        )
    return section


def _quality(document: dict[str, Any]) -> Section:
    from eegm2.deploy.predict.tables import bad_channels

    section = Section(
        "quality",
        "Quality of the recordings",
        look="Notes in the last column: predictions of such recordings deserve doubt.",
        then="Mend unit, reference or electrodes where a note names them, and predict again; done ones are "
        "kept.",
    )
    section.text(
        "Typical amplitude, bad channels, mains and clipping of every recording, and what is out of the "
        "range of the data that the head was learnt on. Predictions of recordings with a note here deserve "
        "doubt."
    )
    rows = []
    for facts in document["recordings"]:
        quality = facts["quality"]
        flags = sorted({flag.partition(":")[0] for row in facts["windows"] for flag in row["flags"]})
        rows.append(
            (
                facts["recording"],
                quality.get("typical_uv"),
                " ".join(bad_channels(quality)) or "none",
                quality.get("line_noise_ratio"),
                f"{100 * (quality.get('clipped_share') or 0):.2f} %",
                " ".join(flags) or "none",
                "; ".join(facts["warnings"]) or "none",
            )
        )
    head = ("recording", "typical µV", "bad channels", "mains ratio", "clipped", "flags of windows", "notes")
    section.table(head, rows)
    return section


def _provenance(document: dict[str, Any], command: str) -> Section:
    section = Section(
        "provenance",
        "How it was made",
        look="Which head, features and threshold decided, and what pretraining saw.",
        then="Give the same command with --threshold or --head to see what another choice decides.",
    )
    model, facts = document["model"], document["model"]["facts"]
    section.facts(
        [
            ("model", model["name"]),
            ("head", model["head"]),
            ("features", facts.get("features")),
            ("scaling", facts.get("scaling")),
            ("centring", facts.get("centre")),
            ("threshold", model["threshold"]),
            ("pretraining", facts.get("pretraining")),
            ("SHA-256", model["sha256"]),
            ("eegm2", document["provenance"]["versions"].get("eegm2")),
            ("command", command),
        ]
    )
    section.note("For research. Not a medical device; not for diagnosis or any decision about a person.")
    return section
