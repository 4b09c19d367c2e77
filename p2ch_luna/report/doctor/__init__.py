"""Whether `luna diagnose` works on this machine, and what to do where it does not."""

from p2ch_luna.report.doctor.checks import CHECKS, examine
from p2ch_luna.report.doctor.remark import Remark, State

__all__ = ["CHECKS", "Remark", "State", "examine"]
