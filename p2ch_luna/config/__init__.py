"""What a run is made of: its tables, how they are read from TOML, and what is said of a wrong one."""

from p2ch_luna.config.runs import (
    BEST_BY,
    MalignancyRun,
    NoduleRun,
    RunConfig,
    SegmentationRun,
)
from p2ch_luna.config.tables import DataConfig
from p2ch_luna.config.toml import as_toml, check_config, difference, load_config

__all__ = [
    "BEST_BY",
    "DataConfig",
    "MalignancyRun",
    "NoduleRun",
    "RunConfig",
    "SegmentationRun",
    "as_toml",
    "check_config",
    "difference",
    "load_config",
]
