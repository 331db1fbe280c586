"""What is no samples is refused in one sentence, before torch sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from eegm2 import EEGM2, EEGM2Config, StreamingEEGM2
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.errors import DataError
from eegm2.model.inputs import dense_array

ROWS = np.arange(32, dtype=np.float32).reshape(1, 2, 16)
NO_SAMPLES: dict[str, Any] = {
    "objects": ROWS.astype(object),
    "dates": ROWS.astype("datetime64[s]"),
    "text": ROWS.astype("U4"),
    "complex": ROWS * 1j,
    "masked": np.ma.masked_array(ROWS, ROWS == 3),
    "sparse matrix": sparse.csr_matrix(ROWS[0]),
    "sparse tensor": torch.from_numpy(ROWS).to_sparse(),
    "meta tensor": torch.empty(1, 2, 16, device="meta"),
    "lists of differing length": [[[1.0], [1.0, 2.0]]],
    "nothing": None,
}


@pytest.fixture(scope="module")
def stream() -> StreamingEEGM2:
    return StreamingEEGM2(EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=2)).eval())


@pytest.mark.parametrize("what", NO_SAMPLES)
def test_a_stream_refuses(what: str, stream: StreamingEEGM2) -> None:
    with pytest.raises(DataError, match=r"^push: got ") as error:
        stream.push(NO_SAMPLES[what])
    assert "\n" not in str(error.value)
    assert stream.position == 0


@pytest.mark.parametrize("what", NO_SAMPLES)
def test_causal_preprocessing_refuses(what: str) -> None:
    from eegm2.data.config import PreprocessingConfig

    causal = CausalPreprocessor(["Cz", "Pz"], 128.0, PreprocessingConfig(), ("Cz", "Pz"), where="amplifier")
    with pytest.raises(DataError, match="amplifier: "):
        causal.push(NO_SAMPLES[what])


@pytest.mark.parametrize("rows", [ROWS.astype(">f4"), ROWS[..., ::-1][..., ::-1], ROWS.astype("f8")])
def test_any_byte_order_and_strides_are_taken(rows: np.ndarray, stream: StreamingEEGM2) -> None:
    np.testing.assert_array_equal(dense_array(rows, "x"), ROWS)
    assert dense_array(ROWS[..., ::-1], "x").strides[-1] > 0
    stream.push(rows)
    stream.reset()


def test_a_network_refuses_a_sparse_input() -> None:
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=2)).eval()
    with pytest.raises(ValueError, match=r"got layout torch\.sparse_coo, expected a dense tensor"):
        model(torch.from_numpy(ROWS).to_sparse())
