"""The model card: what somebody must know before using a model, generated from what was recorded.

Every name in it comes from a file and is escaped, for Markdown and for HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from eegm2.data.windows.splits import PARTS, SplitManifest
from eegm2.model.network import EEGM2
from eegm2.model.unet import UNet
from eegm2.plugins import is_plugin
from eegm2.words import count

_PREPROCESSING = {
    "reference": "reference",
    "l_freq_hz": "high-pass, Hz",
    "h_freq_hz": "low-pass, Hz",
    "notch_hz": "mains removed, Hz",
    "sfreq_hz": "sampling rate, Hz",
    "scale": "factor on the samples",
    "missing": "missing channels",
    "flat": "flat channels",
}
_PRETRAIN = (
    "preset", "width", "objective", "loss", "spectrum", "norm", "epochs", "batch_size", "max_lr", "seed",
)  # fmt: skip
_RESEARCH = (
    "For research. Not a medical device; not for diagnosis, monitoring or any decision about a person."
)
_FIXED = (
    "Valid for the channels, order, reference, rate, band and scaling above. Another montage needs another "
    "input embedding; another amplifier or population needs its own test."
)
_ANY = (
    "Valid for the rate, band and scaling above. Any 4 to 256 electrodes can be given, but it was trained on "
    "the sets above: far fewer, or others, another amplifier or population need their own test."
)
_SKIP = (
    "The reconstruction task can be solved through the network's full-resolution skip: a low reconstruction "
    "error says little about the representation. Judge it by results on subjects it has not seen."
)
_IDENTITY = (
    "Whatever separates the people or devices of the training data can be in the representation, identity "
    "included."
)


def model_card(
    model: EEGM2 | UNet,
    header: Mapping[str, Any],
    *,
    splits: SplitManifest | None = None,
    probes: Sequence[Mapping[str, Any]] = (),
    heads: Sequence[tuple[str, Sequence[str], Mapping[str, Any]]] = (),
) -> str:
    """Return the text of a model card in Markdown.

    Parameters
    ----------
    model : EEGM2 or UNet
        Its configuration and size are stated.
    header : mapping
        Header of its checkpoint; whatever is missing is said to be unknown.
    splits : SplitManifest, optional
        Stated as counts; names of subjects stay out.
    probes : sequence of mapping
        Contents of probes' results.json.
    heads : sequence of (file name, classes, facts)
        What was learnt with labels and lies beside the weights.
    """
    parameters = sum(p.numel() for p in model.parameters())
    sections = [
        "---\nlibrary_name: eegm2\ntags:\n- eeg\n- mamba-2\n- self-supervised-learning\n---\n",
        f"# EEGM2: {plain(model.config.preset_name)}, width {model.config.width}, "
        f"{'any electrodes' if model.config.any_electrodes else f'{model.config.n_chans} channels'}\n",
        f"A self-supervised model of raw EEG with {parameters:,} parameters, after Hong, Mackellar and "
        'Ghane, "EEGM2" (arXiv 2502.17873).\n',
        _about(header),
        _input(model, header),
        _training(header),
        _splits(splits),
        _results(probes),
        _heads(heads),
        f"## Limits\n\n{_limits(model)}{_one_person(header)}",
        _use(model),
    ]
    return "\n".join(section for section in sections if section)


def plain(value: Any, limit: int = 160) -> str:
    """Return any value as text that neither Markdown nor HTML takes for markup, on one line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return re.sub(r"([\\`*_{}\[\]()#+!|~:@])", r"\\\1", html.escape(text, quote=True).replace("&#x27;", "'"))


def _counted(parts: Mapping[str, Any], noun: str) -> str:
    number = parts.get(f"n_{noun}s")
    return count(number, noun) if isinstance(number, int) else f"an unknown number of {noun}s"


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def _table(rows: Sequence[tuple[str, Any]]) -> str:
    lines = ["| | |", "| --- | --- |"]
    lines += [f"| {plain(name)} | {plain(value, 600)} |" for name, value in rows]
    return "\n".join(lines) + "\n"


def _heads(heads: Sequence[tuple[str, Sequence[str], Mapping[str, Any]]]) -> str:
    """Return which heads lie beside the weights: classes, people learnt from, scores on others."""
    if not heads:
        return ""
    lines = ["## Heads", "", "| file | tells | learnt from | on people it had not seen, per window |"]
    lines.append("| --- | --- | --- | --- |")
    for name, classes, facts in heads:
        people = facts.get("n_subjects")
        learnt = count(people, "subject") if isinstance(people, int) else "unknown"
        scores = ", ".join(
            f"{metric.replace('_', ' ')} {value:.3f}"
            for metric, value in _mapping(facts, "test").items()
            if isinstance(value, int | float)
        )
        if scores and facts.get("by") == "recording":
            scores += " (other recordings, maybe of the same people)"
        cells = [f"heads/{name}", " from ".join(map(str, classes)), learnt, scores or "not judged"]
        lines.append(f"| {' | '.join(plain(cell) for cell in cells)} |")
    return "\n".join([*lines, "", "`eegm2 predict FOLDER FILES --out DIR` takes them.", ""])


def _about(header: Mapping[str, Any]) -> str:
    """Return what the maker of a shipped model said of it: data and their terms, people, results, command."""
    about = _mapping(header, "about")
    if not about:
        return ""
    lines = [f"## About\n\n{plain(about.get('description', ''), 400)}\n"]
    lines.append(f"Licence: {plain(about.get('licence', 'unknown'))}.\n")
    data = [entry for entry in about.get("data") or () if isinstance(entry, Mapping)]
    if data:
        lines += ["| data set | people | hours | licence | attribution | from |", "|" + " --- |" * 6]
        for entry in data:
            people = entry.get("people") or ()
            cells = [entry.get("name"), len(people), entry.get("hours"), entry.get("licence")]
            cells += [entry.get("attribution"), entry.get("url")]
            lines.append(f"| {' | '.join(plain(cell) for cell in cells)} |")
        lines.append(
            "\nThe people seen are listed in the header of the weights (about, data) and in splits.json."
        )
    else:
        lines.append("It has seen no data: its weights are random.")
    left_out = about.get("left_out") or ()
    if left_out:
        names = ", ".join(plain(name) for name in left_out)
        lines.append(f"\n{len(left_out)} people were left out, and are none of those it saw: {names}.")
    for result in about.get("results") or ():
        lines.append(f"\n- {plain(result, 400)}")
    lines.append(f"\nMade by `{about.get('command', 'unknown')}`.\n")
    return "\n".join(lines)


def _input(model: EEGM2 | UNet, header: Mapping[str, Any]) -> str:
    windows, preprocessing = _mapping(header, "windows"), _mapping(header, "preprocessing")
    names = header.get("ch_names") or ()
    listed = " ".join(map(str, names)) or f"{model.config.n_chans}, names unknown"
    if model.config.any_electrodes:
        listed = f"any 4 to 256 electrodes, named or with positions; as saved {listed}"
    rows = [
        ("channels" if model.config.any_electrodes else "channels, in this order", listed),
        ("sampling rate", f"{header['sfreq_hz']} Hz" if "sfreq_hz" in header else "unknown"),
        ("units", "microvolts in the store, then scaled as said below"),
        ("scaling", windows.get("scaling", "unknown")),
        ("window of training", f"{windows['window_s']} s" if "window_s" in windows else "unknown"),
    ]
    if windows.get("dataset"):
        rows.append(("windows cut and read by", f"{windows['dataset']}, not part of eegm2"))
    for key, label in _PREPROCESSING.items():
        if key in preprocessing:
            unused = key in ("l_freq_hz", "h_freq_hz", "notch_hz") and preprocessing[key] == 0
            rows.append((label, "none" if unused else preprocessing[key]))
    return f"## Input and preprocessing\n\n{_table(rows)}"


def _training(header: Mapping[str, Any]) -> str:
    data, pretrain, versions = (_mapping(header, key) for key in ("data", "pretrain", "versions"))
    rows = [
        ("recordings", data.get("n_recordings", "unknown")),
        ("subjects", data.get("n_subjects", "unknown")),
        ("store", data.get("store", "unknown")),
        ("SHA-256 of the store's manifest", data.get("manifest_sha256", "unknown")),
    ]
    if isinstance(begun := header.get("init"), Mapping):
        rows.append(("begun with the weights of", _beginning(begun)))
    rows += [(key.replace("_", " "), pretrain[key]) for key in _PRETRAIN if key in pretrain]
    rows += [(name, header[key]) for name, key in (("epoch", "epoch"), ("step", "step")) if key in header]
    if header.get("val_loss") is not None:
        rows.append(("validation loss", f"{float(header['val_loss']):.4g}"))
    if versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    if header.get("commit"):
        rows.append(("commit", header["commit"]))
    return f"## Training\n\n{_table(rows)}{_stores(data.get('stores'))}"


def _beginning(init: Mapping[str, Any]) -> str:
    """Return what a model that training began with was, and what it was trained on."""
    data, earlier = _mapping(init, "data"), init.get("init")
    text = f"{init.get('model', 'unknown')} (SHA-256 {str(init.get('weights_sha256', 'unknown'))[:12]}…)"
    text += f", trained on {data.get('store', 'unknown data')}, {_counted(data, 'subject')}"
    return text + (f"; itself begun with {_beginning(earlier)}" if isinstance(earlier, Mapping) else "")


def _stores(entries: Any) -> str:
    """Return a table of what came from which of several stores."""
    if not isinstance(entries, list):
        return ""
    lines = [
        "\n| store | recordings | people: train, validation | share | channels | licence | SHA-256 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in entries:
        if isinstance(entry, Mapping):
            share = entry.get("share")
            cells = [
                entry.get("store", "unknown"),
                entry.get("n_recordings", "unknown"),
                f"{entry.get('n_train_subjects', 'unknown')}, {entry.get('n_val_subjects', 'unknown')}",
                f"{share:.0%}" if isinstance(share, float) else "unknown",
                " ".join(map(str, entry.get("ch_names") or ())) or "unknown",
                entry.get("licence") or "not stated",
                f"{str(entry.get('manifest_sha256', 'unknown'))[:12]}…",
            ]
            lines.append(f"| {' | '.join(plain(cell, 600) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _splits(splits: SplitManifest | None) -> str:
    if splits is None:
        return "## Split\n\nUnknown: the model was saved without its run.\n"
    counts = ", ".join(f"{len(getattr(splits, part))} {part}" for part in PARTS)
    kept = (
        "No subject is in two parts"
        if splits.by == "subject"
        else "**Recordings were divided, not subjects: one person may be on both sides, so results do not "
        "generalise to other people**"
    )
    return (
        f"## Split\n\nBy {plain(splits.by)}, seed {splits.seed}: {counts}. {kept}. Names are kept in the "
        "run's splits.json.\n"
    )


def _results(probes: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for probe in probes:
        task = _mapping(probe, "task")
        classes = " / ".join(map(str, task.get("classes") or ())) or "regression"
        parts = _mapping(_mapping(task, "parts"), "test")
        lines.append(
            f"{plain(task.get('target', 'unknown target'))}: {plain(classes, 300)}; test on "
            f"{_counted(parts, 'window')} of {_counted(parts, 'subject')}; "
            f"{plain(task.get('pretraining_saw', 'what pretraining saw is unknown'), 300)}.\n"
        )
        lines += ["| protocol | metric | mean | std | seeds |", "| --- | --- | --- | --- | --- |"]
        for row in probe.get("summary") or ():
            if isinstance(row, Mapping):
                values = [
                    row.get("protocol"),
                    row.get("metric"),
                    row.get("mean"),
                    row.get("std"),
                    row.get("n_seeds"),
                ]
                cells = [f"{value:.4f}" if isinstance(value, float) else plain(value) for value in values]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "## Results\n\n" + ("\n".join(lines) if lines else "No probe of this model was recorded.\n")


def _limits(model: EEGM2 | UNet) -> str:
    """Return what a user must not expect of a network."""
    shape = model.config
    points = [_RESEARCH, _ANY if shape.any_electrodes else _FIXED]
    points += [_SKIP] if shape.decoder else []
    return "".join(f"- {point}\n" for point in (*points, _IDENTITY))


def _one_person(header: Mapping[str, Any]) -> str:
    if _mapping(header, "data").get("n_subjects") == 1:
        return "- **Trained on one person: it shows that the pipeline works, and is not a finding.**\n"
    return ""


def _use(model: EEGM2 | UNet) -> str:
    needed, trust = "", ""
    if is_plugin(model.config.mixer):
        package = model.config.mixer.partition(":")[0].partition(".")[0]
        trust = f', trust="{package}"'
        needed = (
            f"Its mixer is `{model.config.mixer}`, which is not part of eegm2: loading the model imports the "
            f"package {plain(package)} and so runs its code. Install it if you know it.\n\n"
        )
    return (
        f"## Use\n\n{needed}```python\nfrom eegm2 import EEGM2\n\n"
        f'model = EEGM2.from_pretrained("FOLDER OR OWNER/NAME"{trust})\n'
        'print(model.header["ch_names"], model.header["sfreq_hz"])\n'
        "features = model.features(x)  # x: (batch, n_chans, n_times), prepared and scaled as above\n```\n"
    )
