"""What each format declares, before MNE reads it, and the one comparison with what MNE then read.

A function per format parses the header by itself and returns a `Declared`: the files the recording consists
of, how MNE is to be called, and what must come out of it (samples, channels, units, labels).
`Declared.finish` makes the comparison, once for all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegm2.data.channels import is_known
from eegm2.data.files.brainvision import BrainVisionHeader
from eegm2.data.files.edf import EDFHeader
from eegm2.data.files.eeglab import check_eeglab, data_files
from eegm2.data.files.fif import FIFFacts, fif_parts
from eegm2.data.files.gdf import GDFHeader
from eegm2.data.files.mat import check_matfile
from eegm2.data.files.units import microvolts_per
from eegm2.data.labels import LabelSpan
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne


@dataclass
class Declared:
    """What a recording says of itself.

    Attributes
    ----------
    path : Path
        Its main file.
    files : tuple of Path
        Further files it consists of; a missing one that is named is among them.
    arguments : dict
        For MNE's reader.
    n_times, n_chans : int or None
        As declared; None where the format does not say.
    labels : callable or None
        Given the sampling rate, the labels in seconds after the first sample, by our own reading.
    factors : callable or None
        Given the recording, microvolts per unit of every channel (None: no voltage) and what MNE took it for.
    drop : list of str
        Channels to leave out.
    further : callable or None
        What else of the format is to be compared.
    """

    path: Path
    files: tuple[Path, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    n_times: int | None = None
    n_chans: int | None = None
    labels: Callable[[float], Sequence[LabelSpan]] | None = None
    factors: Callable[[mne.io.BaseRaw], list[tuple[float | None, float]]] | None = None
    drop: list[str] = field(default_factory=list)
    further: Callable[[mne.io.BaseRaw], None] | None = None

    def finish(self, raw: mne.io.BaseRaw) -> None:
        """Compare what was read with what is declared; set labels and units as the file has them.

        Raises
        ------
        DataError
            If they differ, with both numbers.
        """
        self.equal("channels", self.n_chans, len(raw.ch_names))
        self.equal("samples", self.n_times, int(raw.n_times))
        if self.further is not None:
            self.further(raw)
        if self.factors is not None:
            _correct_units(raw, self.factors(raw))
        if self.labels is not None:
            _place(raw, self.labels(float(raw.info["sfreq"])))
        if self.drop:
            raw.drop_channels([name for name in self.drop if name in raw.ch_names])

    def equal(self, what: str, stated: int | None, found: int) -> None:
        """Refuse two numbers that differ."""
        if stated is not None and stated != found:
            raise DataError(
                f"{self.path}: declares {stated} {what}, and {found} were read; copy or export the file again"
            )


def _place(raw: mne.io.BaseRaw, labels: Sequence[LabelSpan]) -> None:
    """Give a recording its labels; MNE says which lie outside it, and `reading` keeps that."""
    import mne

    onsets, durations, texts = (
        zip(*((s.onset_s, s.duration_s, s.label) for s in labels)) if labels else ((),) * 3
    )
    raw.set_annotations(mne.Annotations(onsets, durations, texts), verbose="warning")


def _correct_units(raw: mne.io.BaseRaw, factors: Sequence[tuple[float | None, float]]) -> None:
    """Let samples be volts where MNE took the unit for another one, and mark units that are not known."""
    from mne.io.constants import FIFF

    for channel, (microvolts, taken) in enumerate(factors):
        if microvolts is None:
            raw.info["chs"][channel]["unit"] = FIFF.FIFF_UNIT_NONE
        elif abs(microvolts / taken - 1) > 1e-9:
            raw._cals[channel] *= microvolts / taken


def _edf(path: Path) -> Declared:
    header = EDFHeader.read(path)
    excluded = header.check(path)
    used = [
        (unit, n)
        for name, unit, n in zip(header.labels, header.units, header.samples)
        if not header.is_annotation(name) and name not in excluded
    ]

    def factors(raw: mne.io.BaseRaw) -> list[tuple[float | None, float]]:
        taken = raw._raw_extras[0]["units"]
        return [(microvolts_per(unit), 1e6 * float(factor)) for (unit, _), factor in zip(used, taken)]

    return Declared(
        path,
        arguments={"exclude": excluded, "encoding": "latin1"},
        n_times=used[0][1] * header.records(path),
        n_chans=len(used),
        labels=lambda sfreq_hz: header.annotations(path),
        factors=factors,
    )


def _gdf(path: Path) -> Declared:
    header = GDFHeader.read(path)
    others = header.check(path)
    header.events(path, 1.0)  # MNE would stumble over a table that is none
    n_times = header.n_times(others)
    if n_times < header.n_times([]):
        raise DataError(
            f"{path}: {' '.join(others)} at a higher sampling rate than the EEG; export the file without"
        )

    def factors(raw: mne.io.BaseRaw) -> list[tuple[float | None, float]]:
        taken = raw._raw_extras[0]["units"]
        return [(unit, 1e6 * float(factor)) for unit, factor in zip(header.factors, taken)]

    return Declared(
        path,
        n_times=n_times,
        n_chans=len(header.names),
        labels=lambda sfreq_hz: header.events(path, sfreq_hz),
        factors=factors,
        drop=others,
    )


def _brainvision(path: Path) -> Declared:
    header = BrainVisionHeader.read(path)
    header.check()

    def respell(raw: mne.io.BaseRaw) -> None:
        from mne.io.constants import FIFF

        for place, name in enumerate(raw.ch_names):
            factor = header.factor(name)
            if not header.misread(name) or (factor is None and not is_known(name)):
                continue  # MNE knows the unit, or it is another one of another kind of channel
            raw.set_channel_types({name: "eeg"}, on_unit_change="ignore", verbose="error")
            if factor is None:
                raw.info["chs"][place]["unit"] = FIFF.FIFF_UNIT_NONE
            else:
                raw._cals[place] *= factor * 1e-6

    n_times = header.n_times
    if header.width:
        n_times = header.data.stat().st_size // (header.width * header.n_chans)
    return Declared(path, header.files, n_times=n_times, n_chans=header.n_chans, further=respell)


def _eeglab(path: Path) -> Declared:
    facts = check_matfile(path)
    return Declared(path, data_files(path, facts), further=lambda raw: check_eeglab(path, facts, raw))


def _fif(path: Path) -> Declared:
    parts = fif_parts(path)
    _refuse_other_kinds(path, parts[path])
    counts = [facts.n_times for facts in parts.values()]
    n_times = None if None in counts else sum(count for count in counts if count is not None)
    return Declared(path, tuple(parts)[1:], n_times=n_times, n_chans=parts[path].n_chans)


def _refuse_other_kinds(path: Path, facts: FIFFacts) -> None:
    """Refuse FIF files of another kind than recordings by what they are."""
    if facts.holds == "epochs":
        raise DataError(
            f"{path}: holds epochs, cut beforehand; prepare the continuous recording they come from, "
            "or give them as MNE Epochs to eegm2.evaluation.estimators.sklearn"
        )
    if facts.holds == "other":
        raise DataError(f"{path}: holds no raw recording; choose the file with the continuous data")


DECLARED: dict[str, Callable[[Path], Declared]] = {
    ".edf": _edf,
    ".bdf": _edf,
    ".gdf": _gdf,
    ".vhdr": _brainvision,
    ".set": _eeglab,
    ".fif": _fif,
    ".fif.gz": _fif,
}
"""File suffix → what such a file declares."""
