"""How the run was trained, and what is needed to repeat it."""

from __future__ import annotations

import json

import numpy as np

from eegm2.report import figures
from eegm2.report.contents import ReportData
from eegm2.report.document import Section
from eegm2.report.figures.style import number
from eegm2.report.sections.words import option, setting


def training_section(data: ReportData) -> Section:
    """Show the loss curves and how the run was configured."""
    more = "eegm2 finetune with more --max-epochs" if data.tuned else "eegm2 pretrain with more --epochs"
    section = Section(
        "training",
        "Learning curves",
        look="Whether the validation loss (dashed) has stopped falling or begins to rise while training "
        "goes on.",
        then=f"Still falling: {more} into a new run; rising: fewer, or more people.",
    )
    log = data.log
    if log is None:
        section.note(data.missing.get("log") or "The run holds no training log.")
    else:
        section.figure(
            lambda: figures.loss_curves(log.epoch, log.curves),
            caption=_loss_caption({} if data.tuned else data.header.get("pretrain", {}), tuned=data.tuned),
            alt="loss curves",
        )
        last = len(log.epoch) - 1
        rows = []
        for name, values in log.curves.items():
            if np.isfinite(values).any():
                final = values[np.isfinite(values)][-1]
                best = np.nanmin(values) if name.startswith(("train_", "val_")) else np.nan
                rows.append(
                    (option(name), number(float(values[np.isfinite(values)][0])), number(best), number(final))
                )
        section.table(["metric", "first epoch", "lowest", f"last (epoch {int(log.epoch[last])})"], rows)
    options = data.header.get("finetune" if data.tuned else "pretrain")
    if isinstance(options, dict):
        section.table(
            ["option", "value"],
            [(option(k), setting(v)) for k, v in options.items()],
            title="Options of the run",
            folded=True,
        )
    return section


def _loss_caption(pretrain: dict[str, object], *, tuned: bool = False) -> str:
    if tuned:
        return (
            "Training (solid) and validation (dashed) loss per epoch of the tuning: cross-entropy, classes "
            "weighted equally. The weights kept are those of the lowest validation loss."
        )
    if pretrain.get("objective") == "oscillatory":
        return (
            "Training (solid) and validation (dashed) loss per epoch; the total is the weighted sum of the "
            "others. Errors of targets are in units of the targets' own variance: 1 is that of always saying "
            "the mean, so look at what falls below it, in validation too."
        )
    text = (
        "Training (solid) and validation (dashed) loss per epoch. The total is the weighted sum of the "
        "temporal and spectral parts (Eq. 1 of the paper)."
    )
    if pretrain.get("norm", "backward") == "backward":
        text += (
            " The spectral part grows with a window's length, so compare it between runs of one length only."
        )
    if pretrain.get("objective", "reconstruction") != "reconstruction":
        text += f" The objective is {pretrain['objective']}: the loss is not that of plain reconstruction."
    return text


def provenance_section(data: ReportData) -> Section:
    """Show what is needed to repeat the run."""
    section = Section(
        "provenance",
        "Provenance",
        look="Commit, versions and seed: the same ones give the same weights on a CPU.",
        then="Keep this page with the run; eegm2 share RUN --out MODEL writes a model card from the same "
        "facts.",
    )
    header = data.header
    stored = header.get("data", {})
    section.facts(
        [
            ("Report made", data.created),
            ("Report command", data.command),
            ("Run", data.run),
            ("Run command", header.get("command")),
            ("Commit", header.get("commit") or "unknown"),
            ("Store", stored.get("store")),
            ("Begun with the weights of", (header.get("init") or {}).get("model")),
            ("Manifest SHA-256", stored.get("manifest_sha256")),
            ("Checkpoint", _checkpoint_words(header)),
            ("Versions of the run", ", ".join(f"{k} {v}" for k, v in (header.get("versions") or {}).items())),
            ("Versions of the report", ", ".join(f"{k} {v}" for k, v in data.versions.items())),
        ]
    )
    if data.missing.get("header"):
        section.note(data.missing["header"])
    if header:
        section.code("Whole configuration", json.dumps(header, indent=2, ensure_ascii=False, default=str))
    return section


def _checkpoint_words(header: dict[str, object]) -> str:
    epoch, step = header.get("epoch"), header.get("step")
    if not isinstance(epoch, int):
        return ""
    return f"epoch {epoch}" + (f", step {step:,}" if isinstance(step, int) else "")
