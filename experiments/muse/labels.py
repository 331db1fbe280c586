"""Write the table of labels that makes the muse recordings' markers a task.

    python experiments/muse/labels.py stores/muse labels.csv
    eegm2 prepare MUSE --out stores/muse_tasks --table labels.csv

``stores/muse`` is the data set as it was prepared without a table. A marker is an instant whose meaning
depends on the experiment; here it becomes a span that begins with the stimulus, and says of which experiment.
"""

import csv
import re
import sys
from pathlib import Path

from eegm2 import RecordingStore

#: Experiment → seconds after the stimulus, and what its markers are called.
TASKS = {
    "cueing": (1.5, {1: "cue", 2: "cue", 11: "target", 12: "target", 21: "target", 22: "target"}),
    "P300": (1.0, {1: "frequent", 2: "rare"}),
    "SSVEP": (3.0, {1: "flicker 1", 2: "flicker 2"}),
}


def main(store: str, out: str) -> None:
    """Write one row per stimulus."""
    with Path(out).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["recording", "subject", "onset_s", "duration_s", "label"])
        for info in RecordingStore(store).recordings:
            task = re.search(r"_task-(\w+?)_", info.id)
            if task is None or task[1] not in TASKS:
                continue
            seconds, names = TASKS[task[1]]
            for span in info.labels:
                marker = int(span.label.removeprefix("marker "))
                table.writerow([info.id, info.subject, span.onset_s, seconds, names[marker]])


if __name__ == "__main__":
    main(*sys.argv[1:])
