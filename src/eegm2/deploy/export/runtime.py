"""Run exported files with NumPy and ONNX Runtime alone: no torch on the device.

This module imports nothing else of eegm2, so it can be copied beside the exported files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnxruntime as ort

#: Stands for the end of a stream whose length is not known yet.
OPEN_END = 2**40
STEP = 8


def open_session(path: str | Path, threads: int = 1) -> tuple[ort.InferenceSession, dict[str, Any]]:
    """Return a session on the CPU and the facts that ``eegm2 export`` put into the file.

    Raises
    ------
    ValueError
        If the file is missing or was not written by ``eegm2 export``.
    ImportError
        If ONNX Runtime is not installed.
    """
    try:
        import onnxruntime as ort
    except ModuleNotFoundError as error:
        raise ImportError("onnxruntime is missing; pip install onnxruntime", name=error.name) from error
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; eegm2 export writes one")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map.get("eegm2")
    if text is None:
        raise ValueError(f"{path}: holds no eegm2 metadata, so it was not written by eegm2 export")
    return session, _facts(path, text)


def _facts(path: str | Path, text: str) -> dict[str, Any]:
    """Return the facts of a file; ValueError by the name of one that is missing or of another kind."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its metadata are damaged ({error}); export the model again") from error
    kinds: dict[str, type] = {"part": str, "n_chans": int}
    if isinstance(facts, dict) and facts.get("part") == "step":
        whole = ("width", "hop", "delay_samples", "delay_steps")
        kinds |= {**dict.fromkeys(whole, int), "states": dict, "outputs": list}
    wrong = (
        next((k for k, kind in kinds.items() if type(facts.get(k)) is not kind), None)
        if isinstance(facts, dict)
        else "everything"
    )
    if wrong is not None:
        raise ValueError(f"{path}: its metadata are damaged ({wrong}); export the model again")
    return dict(facts)


class OnnxModel:
    """An exported encoder or reconstruction for whole windows.

    Parameters
    ----------
    path : str or Path
        ``encoder.onnx``, ``reconstruction.onnx`` or their int8 forms.
    threads : int
        Threads of ONNX Runtime.

    Attributes
    ----------
    facts : dict
        ch_names, sfreq_hz, scaling, units, latency_s … as stated in the file.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        self.session, self.facts = open_session(path, threads)
        if self.facts["part"] == "step":
            raise ValueError(f"{path}: is a streaming step; open it with OnnxStream")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Map (batch, n_chans, n_times >= 8), scaled as in training, to the file's output."""
        n_chans, least = self.facts["n_chans"], self.facts.get("step_samples", STEP)
        if x.ndim != 3 or x.shape[1] != n_chans or x.shape[2] < least:
            raise ValueError(
                f"input: got shape {x.shape}, expected (batch, n_chans={n_chans}, n_times >= {least})"
            )
        return self.session.run(None, {"x": np.asarray(x, np.float32)})[0]


class StepStream:
    """A streaming step of fixed size, fed with samples in any cuts; subclasses say how one step is run.

    Parameters
    ----------
    facts : dict
        Of the exported step.
    batch : int
        Streams side by side.
    """

    def __init__(self, facts: dict[str, Any], *, batch: int = 1) -> None:
        self.facts, self.batch = facts, batch
        self.step = int(facts.get("step_samples", STEP))  # older files have no other
        self.reset()

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one step: named inputs to named outputs."""
        raise NotImplementedError

    def reset(self) -> None:
        """Begin a new stream."""
        self.state = {
            name: np.zeros((self.batch, *shape), np.float32) for name, shape in self.facts["states"].items()
        }
        self.position = 0
        self.waiting = np.zeros((self.batch, self.facts["n_chans"], 0), np.float32)
        self.finished = False

    def push(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Take (batch, n_chans, k) samples, any k; return the outputs of the steps that are complete.

        Returns
        -------
        dict
            ``"representation"`` (batch, representation_channels, steps) and, if the file has it,
            ``"reconstruction"`` (batch, n_chans, samples).
        """
        if self.finished:
            raise ValueError("push: the stream has been flushed; call reset() to begin a new one")
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu":
            kind = getattr(x, "dtype", type(x).__name__)
            raise ValueError(f"push: got {kind}, expected a NumPy array of floating point")
        if x.ndim != 3 or x.shape[:2] != self.waiting.shape[:2]:
            raise ValueError(f"push: got shape {x.shape}, expected {self.waiting.shape[:2]} and samples")
        if not np.isfinite(x).all():
            raise ValueError(
                f"push: values after sample {self.position} are not finite; fill the gap or reset"
            )
        self.waiting = np.concatenate([self.waiting, np.asarray(x, np.float32)], axis=2)
        return self._steps(OPEN_END)

    def flush(self) -> dict[str, np.ndarray]:
        """End the stream and return what is left, down to the last sample."""
        end = self.position + self.waiting.shape[2]
        if 0 < end < self.step:
            raise ValueError(f"flush: the stream holds {end} samples, expected none or at least {self.step}")
        hop = self.facts["hop"]
        late = max(self.facts["delay_samples"], self.step * (self.facts["delay_steps"] + 1))
        missing = -(-(end + late - self.position) // hop) * hop - self.waiting.shape[2]
        padding = np.zeros((*self.waiting.shape[:2], missing), np.float32)
        self.waiting = np.concatenate([self.waiting, padding], axis=2)
        results = self._steps(end)
        self.finished = True
        return results

    def _steps(self, end: int) -> dict[str, np.ndarray]:
        """Take all complete steps that wait."""
        hop, outputs = self.facts["hop"], self.facts["outputs"]
        steps: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
        while self.waiting.shape[2] >= hop:
            feed = {
                "x": np.ascontiguousarray(self.waiting[:, :, :hop]),
                "position": np.array(self.position, np.int64),
                "end": np.array(end, np.int64),
            }
            feed |= {f"state.{name}": value for name, value in self.state.items()}
            results = self._run(feed)
            for name in outputs:
                steps[name].append(self._existing(name, results[name], end))
            self.state = {name: results[f"next.{name}"] for name in self.state}
            self.position += hop
            self.waiting = self.waiting[:, :, hop:]
        width = self.facts.get("representation_channels", 4 * self.facts["width"])
        channels = {"representation": width, "reconstruction": self.facts["n_chans"]}
        empty = {name: np.zeros((self.batch, channels[name], 0), np.float32) for name in outputs}
        return {name: np.concatenate([empty[name], *steps[name]], axis=2) for name in outputs}

    def _existing(self, name: str, y: np.ndarray, end: int) -> np.ndarray:
        """Cut off what lies before the start or behind the end of the stream."""
        per_step = self.step if name == "representation" else 1
        delay = self.facts["delay_steps" if name == "representation" else "delay_samples"]
        first = self.position // per_step - delay
        return y[:, :, max(0, -first) : max(0, min(y.shape[2], end // per_step - first))]


class OnnxStream(StepStream):
    """An exported streaming step: push samples in any cuts, get what is ready.

    Parameters
    ----------
    path : str or Path
        ``step.onnx`` or its int8 form.
    batch : int
        Streams side by side.
    threads : int
        Threads of ONNX Runtime.

    Attributes
    ----------
    facts : dict
        ch_names, sfreq_hz, scaling, units, hop, delay_samples, latency_s … as stated in the file.
    state : dict of str to array
        The file's states; copy it to save, set it to continue (with `position` and `waiting`).
    """

    def __init__(self, path: str | Path, *, batch: int = 1, threads: int = 1) -> None:
        self.session, facts = open_session(path, threads)
        if facts["part"] != "step":
            raise ValueError(f"{path}: is a {facts['part']}, not a streaming step; open it with OnnxModel")
        self.names = [output.name for output in self.session.get_outputs()]
        super().__init__(facts, batch=batch)

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.names, self.session.run(None, feed)))


class OnnxWindow:
    """An exported network for windows of one length, of a model that was kept with its head.

    Parameters
    ----------
    path : str or Path
        ``bundle.onnx`` of such a model.
    threads : int
        Threads of ONNX Runtime.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        self.session, self.facts = open_session(path, threads)
        if self.facts["part"] != "window":
            raise ValueError(f"{path}: is a {self.facts['part']}, not a network for windows of one length")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Map one scaled window, (n_chans, n_times), to a representation (channels, steps) or scores."""
        return self.session.run(None, {"x": np.asarray(x, np.float32)[None]})[0][0]


def open_network(path: str | Path, threads: int = 1) -> OnnxStream | OnnxWindow:
    """Return the network of a bundle: a streaming step, or one for windows of one length."""
    windowed = open_session(path, threads)[1]["part"] == "window"
    return OnnxWindow(path, threads=threads) if windowed else OnnxStream(path, threads=threads)
