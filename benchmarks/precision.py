"""What bfloat16 and 8-bit weights do to speed and accuracy of whole networks on this CPU.

Each precision is measured on the same input in turns, so that a busy machine slows all of them; the error is
that of the output against float64, in units of its standard deviation. The last line is JSON; --table prints
the table of the documentation from such a file.

    python benchmarks/precision.py [--repeats 7] [--out FILE.json]
    python benchmarks/precision.py --table FILE.json
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from scan import commit
from torch import Tensor, nn

from eegm2 import EEGM2, EEGM2Config

CASES = (("eegm2", 1280), ("eegm2", 12_800), ("light", 1280), ("light", 12_800))
SMALLEST_GAIN = 1.1  # times as fast as float32: offered from here on


def bfloat16(model: EEGM2, x: Tensor) -> Callable[[], Tensor]:
    narrow, narrow_x = copy.deepcopy(model).bfloat16(), x.bfloat16()
    return lambda: narrow(narrow_x)


def autocast(model: EEGM2, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x)

    return run


def dynamic_int8(model: EEGM2, x: Tensor) -> Callable[[], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that this function will move
        names = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        names = {name for name in names if name.endswith(("in_proj", "out_proj"))}  # 9 of 10 products
        made = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), names, dtype=torch.qint8)
    return lambda: made(x)


FORMS: dict[str, Callable[[EEGM2, Tensor], Callable[[], Tensor]]] = {
    "float32": lambda model, x: lambda: model(x),
    "bfloat16": bfloat16,
    "bfloat16 autocast": autocast,
    "int8 dynamic": dynamic_int8,
}


@torch.no_grad()
def measure(preset: str, n_times: int, repeats: int) -> list[dict[str, object]]:
    torch.manual_seed(0)
    model = EEGM2(EEGM2Config.preset(preset)).eval()
    x = torch.randn(1, 16, n_times)
    exact = copy.deepcopy(model).double()(x.double())
    runs, failures = {}, {}
    for name, make in FORMS.items():
        try:
            runs[name] = make(model, x)
            runs[name]()
        except (RuntimeError, AttributeError, TypeError, NotImplementedError) as error:
            failures[name] = str(error).splitlines()[0][:120]
            runs.pop(name, None)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    base = statistics.median(times["float32"])
    rows: list[dict[str, object]] = []
    for name in FORMS:
        row: dict[str, object] = {"preset": preset, "n_times": n_times, "form": name}
        if name in runs:
            error = (runs[name]().double() - exact).abs()
            median = statistics.median(times[name])
            row |= {
                "median_ms": round(median, 2),
                "times_faster": round(base / median, 2),
                "rms_error": float(error.square().mean().sqrt() / exact.std()),
                "largest_error": float(error.max() / exact.std()),
            }
        else:
            row["failure"] = failures[name]
        rows.append(row)
    return rows


def table(result: dict) -> str:
    lines = [
        "| network | samples | arithmetic | speed against float32 | RMS error | largest error |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        if "failure" in row:
            values = f"does not run: {row['failure']} | |"
        else:
            values = f"{row['times_faster']:.2f} × | {row['rms_error']:.1e} | {row['largest_error']:.1e}"
        lines.append(f"| {row['preset']} | {row['n_times']:,} | {row['form']} | {values} |")
    helps = sorted({r["form"] for r in result["rows"] if r.get("times_faster", 0) >= SMALLEST_GAIN})
    verdict = f"Faster by a tenth or more somewhere: {', '.join(helps)}." if helps else "None is faster."
    return "\n".join([*lines, "", f"{result['machine']}, commit {result['commit']}. {verdict}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--longest", type=int, default=12_800, help="leave longer inputs out")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "commit": commit(),
        "rows": [],
    }
    for preset, n_times in CASES:
        if n_times <= options.longest:
            for row in measure(preset, n_times, options.repeats):
                result["rows"].append(row)
                print(row, flush=True)
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
