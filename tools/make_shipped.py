"""Make a model that ships with the package, from its declaration: the same file again on the same machine.

Usage: python tools/make_shipped.py tools/shipped/NAME.toml [--store NAME=STORE ...] [--work FOLDER]

The declaration names the data sets (a store of each is given with --store; people it leaves out are left out
before anything is read), the options of the pretraining with its seed, and what the card must say. The result
is src/eegm2/zoo/weights/NAME: model.safetensors with everything in its header, config.json, splits.json (the
people seen), README.md. A declaration without data sets gives an untrained network, a control.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from eegm2 import EEGM2
from eegm2.config import from_dict, read_toml, to_dict
from eegm2.data.channels import wanted_channels
from eegm2.data.config import PreprocessingConfig
from eegm2.data.electrodes import for_electrodes
from eegm2.data.store.recording_store import RecordingStore
from eegm2.model.network import build_model
from eegm2.training.checkpoint import load_checkpoint
from eegm2.training.config import PretrainConfig
from eegm2.training.pretrain import pretrain
from eegm2.zoo.shipped import SHIPPED

ABOUT = ("description", "licence", "features", "centre", "c", "results")
OF_THE_MOMENT = ("commit", "versions", "epoch", "step", "val_loss")
ROOT = Path(__file__).parents[1]


def left_out(declared: dict[str, Any], folder: Path) -> set[str]:
    """Return the people a data set leaves out: names, and files of names relative to the declaration."""
    people = set(declared.get("leave_out", ()))
    for name in declared.get("leave_out_files", ()):
        people |= set((folder / name).read_text().split())
    return people


def without(source: Path, people: set[str], target: Path) -> RecordingStore:
    """Return a copy of a store, by links, in which some people are not."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "recordings").mkdir(parents=True)
    shutil.copyfile(source / "store.json", target / "store.json")
    for recording in RecordingStore(source).recordings:
        if recording.subject in people:
            continue
        for path in (source / "recordings").glob("*"):
            stem = path.name.rpartition("-")[0] if path.suffix == ".raw" else path.stem
            if stem == _stem(recording.id):
                os.link(path, target / "recordings" / path.name)
    made = RecordingStore(target)
    assert not people & set(made.subjects)
    return made


def _stem(recording: str) -> str:
    from eegm2.data.store.facts import file_stem

    return file_stem(recording)


def untrained(options: PretrainConfig) -> EEGM2:
    """Return a network with the weights that a pretraining with this seed would begin with."""
    preprocessing = PreprocessingConfig(montage="epoc14")
    montage = wanted_channels(preprocessing)
    assert montage is not None
    torch.manual_seed(options.seed)
    shape = options.network_config(len(montage.channels), preprocessing.sfreq_hz)
    model = for_electrodes(build_model(shape), montage.channels)
    resolved = PreprocessingConfig(channels=montage.channels)
    model.header = {
        "ch_names": list(montage.channels),
        "sfreq_hz": preprocessing.sfreq_hz,
        "preprocessing": to_dict(resolved),
        "windows": to_dict(options.window_config()),
    }
    return model


def trained(declared: dict[str, Any], options: PretrainConfig, stores: dict[str, Path], work: Path) -> Any:
    """Pretrain on the declared stores and return the network, what it saw, and the split."""
    kept, seen = [], []
    for entry in declared["data"]:
        name = entry["name"]
        store = without(stores[name], entry["people_left_out"], work / name)
        kept.append(store)
        hours = sum(recording.duration_s for recording in store.recordings) / 3600
        facts = {key: entry[key] for key in ("name", "licence", "attribution", "url")}
        seen.append({**facts, "hours": round(hours, 2), "people": sorted(store.subjects)})
    pretrain(kept if len(kept) > 1 else kept[0], work / "run", options)
    return load_checkpoint(work / "run", declared.get("which", "last")), seen


def main() -> None:
    """Make the model and write its folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("declaration", type=Path)
    parser.add_argument("--store", action="append", default=[], metavar="NAME=STORE")
    parser.add_argument("--work", type=Path, default=Path("shipped-work"))
    parser.add_argument("--out", type=Path, default=SHIPPED)
    given = parser.parse_args()
    torch.set_num_threads(1)
    declared = read_toml(given.declaration)
    name, here = given.declaration.stem, given.declaration.parent
    stores = {key: Path(value) for key, _, value in (text.partition("=") for text in given.store)}
    for entry in declared.get("data", []):
        if entry["name"] not in stores:
            sys.exit(f"--store {entry['name']}=STORE is missing: prepare {entry['url']} and give its store")
        entry["people_left_out"] = left_out(entry, here)
    options = from_dict(PretrainConfig, declared["pretrain"], where=str(given.declaration))
    command = ["python", "tools/make_shipped.py", f"tools/shipped/{given.declaration.name}"]
    command += [f"--store {entry['name']}=STORE" for entry in declared.get("data", [])]
    about = {key: declared[key] for key in ABOUT if key in declared}
    about["left_out"] = sorted(set().union(*(e["people_left_out"] for e in declared.get("data", [])), ()))
    about["command"] = " ".join(command)
    if declared.get("data"):
        loaded, seen = trained(declared, options, stores, given.work)
        model, header, about["data"] = loaded.model, loaded.header, seen
    else:
        model = untrained(options)
        header = dict(model.header)
    about["parameters"] = sum(p.numel() for p in model.parameters())
    header = {key: value for key, value in header.items() if key not in OF_THE_MOMENT}
    model.header = {**_without_paths(header), "about": about}
    folder = given.out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "model.json").unlink(missing_ok=True)
    if declared.get("data"):
        shutil.copyfile(given.work / "run" / "splits.json", folder / "splits.json")
    size = (folder / "model.safetensors").stat().st_size
    print(f"{folder}: {size / 1e6:.2f} MB; made by {shlex.join(command)}")


def _without_paths(header: dict[str, Any]) -> dict[str, Any]:
    """Return a header in which no folder of this machine is named."""
    from eegm2.hub.folder import without_paths

    made: dict[str, Any] = json.loads(json.dumps(without_paths(header)))
    return made


if __name__ == "__main__":
    main()
