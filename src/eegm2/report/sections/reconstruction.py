"""Originals against reconstructions, in time and in frequency."""

from __future__ import annotations

from functools import partial

import numpy as np

from eegm2.report import figures
from eegm2.report.contents import Reconstruction, ReportData
from eegm2.report.document import Section
from eegm2.report.figures.style import number
from eegm2.words import count

_SPLIT_NOTE = {
    "val": "validation {who}, unseen in training",
    "test": "test {who}, unseen in training",
    "train": "training subjects (nobody was held out), so this shows fit, not generalisation",
}


def reconstruction_section(data: ReportData) -> Section:
    """Show originals against reconstructions in time: typical and worst window, error per channel."""
    section = Section(
        "reconstruction",
        "Reconstruction",
        look="The worst window and the worst channels: what the model does not reproduce is often noise, "
        "and rightly so.",
        then="Judge the representation by labels: eegm2 probe RUN STORE --out DIR.",
    )
    made = _made(section, data)
    if made is None:
        return section
    mse = ((made.original - made.reconstruction) ** 2).mean(axis=-1)
    r = figures.channel_correlation(made.original, made.reconstruction)
    alone = len({recording.subject for recording in data.recordings}) == 1
    who = "subjects"
    if alone or data.split_by == "recording":
        who = "recordings of people who were trained on"
    section.text(
        f"{count(len(mse), 'window')} of {_SPLIT_NOTE.get(made.split, made.split).format(who=who)}"
        + (f", drawn evenly from {made.n_available:,}" if made.n_available > len(mse) else "")
        + f". The model sees a window scaled channel by channel ({made.unit}) and returns it."
    )
    section.facts(
        [
            (
                "ACMSE",
                f"{number(float(mse.mean()))} (mean squared error per channel, averaged over channels, §6)",
            ),
            ("Pearson's r, median over windows and channels", number(float(np.nanmedian(r)))),
            ("Pearson's r, lowest 5 %", f"below {number(float(np.nanquantile(r, 0.05)))}"),
        ]
    )
    order = np.argsort(mse.mean(axis=1), kind="stable")
    for place, row in (("Typical", order[len(order) // 2]), ("Worst", order[-1])):
        title = f"{place} window: subject {made.subjects[row]}, {made.start_s[row]:g} s"
        section.figure(
            partial(
                figures.reconstruction_traces,
                made.original[row],
                made.reconstruction[row],
                data.ch_names,
                data.sfreq_hz or 1.0,
                unit=made.unit,
                title=title,
            ),
            caption=f"{place} window by mean squared error, from recording {made.recordings[row]} at "
            f"{made.start_s[row]:g} s. Original thick, reconstruction thin; r: correlation in the window.",
            alt=f"{place.lower()} reconstruction",
        )
        if len(order) == 1:
            break
    section.figure(
        lambda: figures.channel_error(data.ch_names, mse, r),
        caption="Error and correlation per channel: median (dot) and central 80 % (bar) over windows.",
        alt="error per channel",
    )
    section.note(
        "A low error alone proves little: the network's full-resolution skip can carry the input to the "
        "output. Judge the representation by the downstream results."
    )
    return section


def spectra_section(data: ReportData) -> Section:
    """Show the power spectra of originals and reconstructions."""
    section = Section(
        "spectra",
        "Power spectra",
        look="Bands in which the reconstruction loses power: the network has not learnt these rhythms.",
        then="Where the rhythms that you need are lost, pretrain longer, or with another loss or objective.",
    )
    made = _made(section, data)
    if made is None:
        return section
    frequency_hz, original_db = figures.welch_db(made.original, data.sfreq_hz or 1.0)
    _, reconstruction_db = figures.welch_db(made.reconstruction, data.sfreq_hz or 1.0)
    section.figure(
        lambda: figures.power_spectra(frequency_hz, original_db, reconstruction_db, unit=made.unit),
        caption="Welch spectra of the same windows (Hann, half overlapping, segments of at most 2 "
        "s): median line, "
        "central 80 % of windows and channels shaded. Right: where the reconstruction gains or loses power.",
        alt="power spectra",
    )
    thinned = len(data.ch_names) > 20
    section.figure(
        lambda: figures.channel_spectra(frequency_hz, original_db, reconstruction_db, data.ch_names),
        caption="The same per channel: median and central 80 % over windows"
        + (f"; 20 of {len(data.ch_names)} channels, evenly picked." if thinned else "."),
        alt="power spectra per channel",
    )
    return section


def _made(section: Section, data: ReportData) -> Reconstruction | None:
    """Return the reconstruction, or None, and then the section says why."""
    if data.reconstruction is None:
        section.note(data.missing.get("reconstruction") or "No reconstruction was made for this report.")
    return data.reconstruction
