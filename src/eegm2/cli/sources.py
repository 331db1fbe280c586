"""The source that ``--source`` names, for ``eegm2 stream`` and ``eegm2 record``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eegm2.config import split_commas
from eegm2.deploy.config import SourceConfig
from eegm2.errors import ConfigError


def open_source(name: str, config: SourceConfig) -> Any:
    """Return the source that ``--source`` names."""
    named: dict[str, Any] = {"ch_names": split_commas(config.channels), "unit": config.unit}
    if name == "lsl":
        from eegm2.deploy.live.lsl import LslSource

        return LslSource(
            config.stream_name,
            source_id=config.stream_id,
            resolve_s=min(5.0, config.timeout_s),
            buffer_s=max(60.0, 2 * config.buffer_s),
            reach=config.lsl,
            **named,
        )
    if name == "brainflow":
        from eegm2.deploy.live.brainflow import BrainflowSource

        return BrainflowSource(config.board, serial_port=config.serial_port, file=config.board_file, **named)
    if not Path(name).exists():
        raise ConfigError(f"source: got '{name}', expected lsl, brainflow or a recording's file")
    from eegm2.deploy.live.source import RecordingSource

    return RecordingSource(name, speed=config.speed, **named)
