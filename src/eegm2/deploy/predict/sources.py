"""What is predicted on: stores as they are; files and folders, prepared as the model's data were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eegm2.config import from_dict, to_dict
from eegm2.data.config import PrepareConfig
from eegm2.data.preparing.prepare import prepare
from eegm2.data.store.recording_store import RecordingStore
from eegm2.deploy.predict.classifier import Classifier
from eegm2.deploy.predict.config import PredictConfig
from eegm2.ending import Interruption
from eegm2.errors import DataError, EEGM2Error
from eegm2.evaluation.windows.from_store import refuse_mismatch
from eegm2.progress import Progress

PREPARED = "prepared"


@dataclass(frozen=True)
class Prepared:
    """Recordings ready to be read, and those that are not.

    Attributes
    ----------
    store : RecordingStore or None
        None where nothing of a source could be prepared.
    source : str
        As the user named it.
    skipped : dict
        Recording or file → why it is left out.
    notes : tuple of str
        What differs from the model's data, allowed by the user.
    """

    store: RecordingStore | None
    source: str
    skipped: dict[str, str]
    notes: tuple[str, ...] = ()


def open_sources(
    classifier: Classifier, sources: Sequence[str], out: Path, config: PredictConfig, progress: Progress
) -> Iterator[Prepared]:
    """Yield every source opened or prepared; one that cannot be is said to be skipped.

    Raises
    ------
    DataError
        If a source is not there.
    """
    for source in sources:
        if "://" not in source and not Path(source).exists():
            raise DataError(f"{source}: no such file, folder or store; check the name")
    for number, source in enumerate(sources):
        if "://" in source or (Path(source) / "store.json").is_file():
            store = RecordingStore(source)
            checkpoint = classifier.checkpoint.on_montage(store.ch_names, config.positions)
            notes = refuse_mismatch(checkpoint.header, store, "the model", allow=config.allow_mismatch)
            yield Prepared(store, source, dict(store.damaged), tuple(notes))
            continue
        yield _prepared(classifier, source, out / PREPARED / f"{number}-{Path(source).stem}", progress)


def _prepared(classifier: Classifier, source: str, place: Path, progress: Progress) -> Prepared:
    """Prepare a file or folder as the model's data were; networks of any electrodes take what is there."""
    wanted = classifier.checkpoint.preprocessing
    problem = ""
    for channels in _channel_choices(classifier):
        values = {**to_dict(wanted), "channels": channels, "montage": ""}
        options = from_dict(PrepareConfig, values, where="the model's preprocessing")
        try:
            made = prepare(
                source, place, options, progress=lambda done, total, _: progress("preparing", done, total)
            )
        except EEGM2Error as error:
            problem = problem or str(error)
            continue
        if made.interrupted:
            raise Interruption(made.status - 128)
        skipped = {o.recording: o.reason for o in made.outcomes if o.status == "skipped"}
        return Prepared(RecordingStore(place), source, skipped, made.messages)
    return Prepared(None, source, {Path(source).name: problem})


def _channel_choices(classifier: Classifier) -> list[tuple[str, ...]]:
    """Return the channels to ask a recording for: the model's; its own where any electrodes will do."""
    trained = tuple(classifier.checkpoint.preprocessing.channels)
    if classifier.checkpoint.config.any_electrodes and trained:
        return [trained, ()]
    return [trained]
