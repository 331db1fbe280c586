"""Damage to the files that eegm2 writes itself: each is used or refused in one line, whatever it says.

A folder with a store, a run, a probe, an evaluation and a head is made once; a damaged copy of one of its
files goes through everything that reads it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from eegm2.errors import EEGM2Error
from tests.hostile.mutations import GENERAL

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 3, 2**70, 10**400, 1e308, float("nan"), float("inf"), "", "x", "../../x", "\ud800",
    "a\0b", [], {}, [[]], {"a": 1}, [1, "b", None], [{"a": []}], "9" * 5000,
)  # fmt: skip
TEXTS = (b"", b"{", b"[]", b"null", b"3", b'"x"', b"[" * 100_000, b"{}", b"\xff\xfe", b"NaN", b"9" * 5000)


def make(folder: Path) -> None:
    """Write the folder: ``store``, ``run`` with a probe, ``evaluation`` and ``head.safetensors``."""
    import torch

    from eegm2 import EEGM2, EEGM2Config
    from eegm2.config import to_dict
    from eegm2.data.config import SplitConfig
    from eegm2.data.signal.quality import quality_row, write_quality
    from eegm2.data.windows.splits import split_subjects
    from eegm2.deploy.heads.dense import DenseHead
    from eegm2.training.checkpoint import save_checkpoint, write_json
    from eegm2.training.config import PretrainConfig
    from tests.data.samples import write_store

    torch.manual_seed(0)
    store = write_store(folder / "store", 4, 512)
    rows = [quality_row(info.id, info.subject, "", "in store", info.quality) for info in store.recordings]
    write_quality(store.storage, [*rows, quality_row("bad", "s9", "", "rejected", {}, "too short")])
    config = PretrainConfig(width=2, window_s=2.0)
    facts = {
        "preprocessing": to_dict(store.preprocessing),
        "windows": to_dict(config.window_config()),
        "ch_names": list(store.ch_names),
        "sfreq_hz": 128.0,
        "data": {
            "store": "store",
            "manifest_sha256": store.manifest_sha256,
            "n_recordings": 4,
            "n_subjects": 4,
        },
        "pretrain": to_dict(config),
        "versions": {"torch": "2"},
        "commit": "",
    }
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=len(store.ch_names), width=2)).eval()
    header = {**facts, "epoch": 1, "step": 2, "val_loss": 0.5}
    for which in ("best", "last"):
        save_checkpoint(folder / "run" / "checkpoints" / f"{which}.safetensors", model, header)
    (folder / "run" / "checkpoints" / "last.ckpt").write_bytes(b"")
    run_facts = {"run_format": 1, "model": model.config.to_dict(), **facts, "finished": True}
    write_json(folder / "run" / "run.json", run_facts)
    split_subjects(store, SplitConfig(val=0.25, test=0.25)).to_json(folder / "run" / "splits.json")
    write_json(folder / "run" / "probes.json", ["probe"])
    metrics = {"accuracy": 0.6, "balanced_accuracy": 0.6}
    rows_of = [{"protocol": "linear", "seed": seed, "metrics": metrics, "threshold": 0.5} for seed in (0, 1)]
    summary = [{"protocol": "linear", "metric": "accuracy", "mean": 0.6, "std": 0.1, "n_seeds": 2}]
    part = {"n_windows": 4, "n_subjects": 2}
    task = {
        "kind": "classification",
        "target": "eyes",
        "classes": ["a", "b"],
        "n_windows": 8,
        "n_subjects": 4,
    }
    task |= {"parts": {"test": part}, "pretraining_saw": "nothing"}
    results = {
        "format": 1,
        "task": task,
        "protocols": rows_of,
        "summary": summary,
        "notes": ["n"],
        "provenance": {},
    }
    write_json(folder / "run" / "probe" / "results.json", results)
    y, who = np.array([0, 1, 0, 1]), np.array(["p", "p", "q", "q"])
    score = np.full((4, 2), 0.5)
    np.savez(folder / "run" / "probe" / "predictions.npz", y_true=y, subject=who, linear_seed_0_score=score)
    np.savez_compressed(folder / "run" / "probe" / "embedding.npz", x=np.ones((4, 3)), y=y, subject=who)
    row = {"model": "linear", "metric": "auroc", "mean": 0.6, "std": 0.1, "ci_low": 0.5, "ci_high": 0.7}
    write_json(folder / "evaluation" / "results.json", {"rows": [{**row, "n_subjects": 4, "seeds": [0]}]})
    pair = {"a": "x", "b": "y", "metric": "auroc", "difference": 0.1, "ci_low": 0.0, "ci_high": 0.2, "p": 0.5}
    details = {"comparisons": [pair], "pretraining_saw": {"linear": {"f0": "x"}}, "failures": {"c": "why"}}
    write_json(folder / "evaluation" / "details.json", {**details, "choices": []})
    layer = (np.ones((2, 9)), np.zeros(2))
    head = DenseHead(
        np.zeros(9), np.ones(9), [layer], ("a", "b"), facts={"features": "statistics", "window_s": 2.0}
    )
    head.save(folder / "head.safetensors")


def uses(folder: Path, name: str, *, draw: bool = True) -> list[Callable[[], Any]]:
    """Return everything that reads a file of the folder, as the commands do; figures only if `draw`."""
    from eegm2.data.signal.quality import read_quality
    from eegm2.data.store.recording_store import RecordingStore
    from eegm2.data.windows.splits import SplitManifest
    from eegm2.deploy.heads.dense import DenseHead
    from eegm2.deploy.trained_model import load_trained
    from eegm2.evaluation.windows.from_store import refuse_mismatch
    from eegm2.hub.folder import share_run
    from eegm2.report.document import Section
    from eegm2.report.gather import gather
    from eegm2.report.html import render_report
    from eegm2.training.checkpoint import INPUT, load_checkpoint
    from eegm2.training.config import PretrainConfig
    from eegm2.training.run_record import open_run

    run, store = folder / "run", folder / "store"

    def probed() -> None:
        checkpoint = load_checkpoint(run, needs=INPUT)
        refuse_mismatch(checkpoint.header, RecordingStore(store), "run")
        assert checkpoint.windows.window_s > 0
        assert checkpoint.preprocessing is not None

    def continued() -> None:
        open_run(run, RecordingStore(store), PretrainConfig(width=2, window_s=2.0), write=False)

    def reported() -> None:
        data = gather(run, store, evaluations=[folder / "evaluation"])
        with contextlib.nullcontext() if draw else mock.patch.object(Section, "figure"):
            render_report(data)

    if name == "head.safetensors":
        return [lambda: DenseHead.load(folder / name)(np.zeros((2, 9)))]
    if name.startswith("store/"):
        return [lambda: read_quality(RecordingStore(store).storage), continued, reported]
    if name.startswith("evaluation/"):
        return [reported]
    shared = [lambda: share_run(run, folder / "shared")]
    return [
        probed,
        continued,
        lambda: load_trained(run),
        *shared,
        lambda: SplitManifest.from_json(run / "splits.json"),
        reported,
    ]


def names(folder: Path) -> list[str]:
    """Return the files that are damaged."""
    found = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [name for name in found if Path(name).suffix in (".json", ".safetensors", ".npz")]


def damage(data: bytes, suffix: str, generator: np.random.Generator) -> bytes:
    """Return a damaged file: mostly JSON with one value replaced or left out, where it is JSON."""
    if suffix == ".json" and generator.random() < 0.85:
        return json.dumps(_changed(json.loads(data), generator)).encode()
    if suffix == ".safetensors" and generator.random() < 0.85:
        size = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + size])
        for key, text in head["__metadata__"].items():
            head["__metadata__"][key] = json.dumps(_changed(json.loads(text), generator))
        packed = json.dumps(head).encode()
        packed += b" " * (-len(packed) % 8)
        return len(packed).to_bytes(8, "little") + packed + data[8 + size :]
    if suffix == ".json" and generator.random() < 0.5:
        return TEXTS[int(generator.integers(len(TEXTS)))]
    return GENERAL[int(generator.integers(len(GENERAL)))](data, generator)


def _changed(document: Any, generator: np.random.Generator) -> Any:
    """Return a document with one value, at any depth, replaced or left out."""
    document = copy.deepcopy(document)
    places: list[tuple[Any, Any]] = []

    def collect(inner: Any) -> None:
        items = (
            inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        )
        for key, value in items:
            places.append((inner, key))
            collect(value)

    collect(document)
    if not places:
        return VALUES[int(generator.integers(len(VALUES)))]
    inner, key = places[int(generator.integers(len(places)))]
    if generator.random() < 0.1:
        del inner[key]
    else:
        inner[key] = VALUES[int(generator.integers(len(VALUES)))]
    return document


def try_one(made: Path, number: int, folder: Path) -> tuple[str, str]:
    """Damage one file of a copy; return ``read``, ``refused`` or ``escaped``, and what was said."""
    generator = np.random.default_rng([number, 77])
    shutil.copytree(made, folder)
    there = names(folder)
    name = there[int(generator.integers(len(there)))]
    path = folder / name
    path.write_bytes(damage(path.read_bytes(), path.suffix, generator))
    refused = ""
    for use in uses(folder, name, draw=number % 10 == 0):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                use()
        except EEGM2Error as error:
            if "\n" in str(error):
                return "escaped", f"{name}: not one line: {error}"
            refused = f"{name}: {error}"
        except Exception as error:
            return "escaped", f"{name}: {type(error).__name__}: {error}"
    return ("refused", refused) if refused else ("read", name)
