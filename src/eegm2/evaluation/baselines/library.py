"""braindecode, imported when a network is asked for."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

from eegm2.errors import ConfigError

INSTALL = "pip install 'eegm2[baselines]'"


def braindecode_models() -> Any:
    """Return the module ``braindecode.models``.

    braindecode imports torchaudio, whose compiled part refuses to load beside another build of torch (a CPU
    torch beside the package index's CUDA torchaudio, usually). torchaudio itself does without that part where
    it is absent, and the networks here use nothing of it: in that case, and in that case only, torchaudio is
    told that it is absent, in this process, with a warning.

    Raises
    ------
    ConfigError
        If braindecode is missing or cannot be imported; the message has the command that installs it.
    """
    left_out = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            try:
                import braindecode.models as models
            except OSError as error:
                if "torchaudio" not in str(error):
                    raise
                _without_compiled_torchaudio()
                left_out = True
                import braindecode.models as models
        except ModuleNotFoundError as error:
            if error.name != "braindecode":
                raise ConfigError(f"baseline: braindecode cannot be imported ({error}); {INSTALL}") from error
            raise ConfigError(f"baseline: braindecode is not installed; {INSTALL}") from error
        except (ImportError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"baseline: braindecode cannot be imported ({reason}); install torch, torchaudio and "
                f"braindecode of matching builds, e.g. {INSTALL} in a fresh environment"
            ) from error
    if left_out:
        warnings.warn(
            "torchaudio's compiled part does not fit this torch and is left out; these networks do without",
            stacklevel=2,
        )
    return models


def _without_compiled_torchaudio() -> None:
    """Let torchaudio import as it does where its shared libraries are not installed."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("torchaudio", "braindecode")]:
        del sys.modules[name]
    stand_in = types.ModuleType("torchaudio._extension")
    facts = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "fail_if_no_align": lambda function: function,
    }
    stand_in.__dict__.update(facts)
    sys.modules["torchaudio._extension"] = stand_in
