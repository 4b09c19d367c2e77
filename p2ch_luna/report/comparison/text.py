"""A comparison as a person reads it in a terminal."""

from __future__ import annotations

from p2ch_luna.report.comparison.growth import RULE
from p2ch_luna.report.comparison.schema import Compared, Comparison, Sight

_HEAD = (
    f"{'prior':>6}{'current':>9}  {'where':<14}{'mean diameter mm':>20}{'change':>8}"
    f"{'volume mm3':>16}{'change':>8}{'doubling':>11}  "
)


def as_text(comparison: Comparison) -> str:
    """A row a nodule, then what one must know of them."""
    prior, current, laid = comparison.prior, comparison.current, comparison.registration
    time = "an unknown time" if comparison.days is None else f"{comparison.days} days"
    lines = [
        f"{prior.name}, and {time} later {current.name}: {prior.findings} and {current.findings} findings",
        f"lungs turned by {laid.turned_degrees:.1f} degrees; overlap {laid.overlap:.2f}, "
        f"correlation {laid.correlation:.2f}",
    ]
    if comparison.nodules:
        lines += [_HEAD.rstrip(), *map(_row, comparison.nodules)]
    growths = [nodule.growth for nodule in comparison.nodules if nodule.growth]
    if comparison.days is None and any(growth.verdict == "larger" for growth in growths):
        lines.append("for volume doubling times: --days, or --prior-date and --current-date")
    if growths:
        lines.append(RULE)
    lines += [f"warning: {warning}" for warning in comparison.warnings]
    return "\n".join([*lines, comparison.statement])


def _row(nodule: Compared) -> str:
    before, now, grown = nodule.prior, nodule.current, nodule.growth
    place = now or before
    where = " ".join(part for part in (place and place.side, place and place.third) if part) or "-"
    by_mm = f"{grown.diameter_mm:+.1f}" if grown else ""
    by_percent = f"{grown.volume_percent:+.0f}%" if grown else ""
    days = f"{grown.doubling_days:.0f} days" if grown and grown.doubling_days is not None else ""
    said = ", ".join(part for part in (grown.verdict if grown else nodule.status, nodule.remark) if part)
    return (
        f"{_id(before):>6}{_id(now):>9}  {where:<14}{_both(before, now, 'mean_diameter_mm', 1):>20}{by_mm:>8}"
        f"{_both(before, now, 'volume_mm3', 0):>16}{by_percent:>8}{days:>11}  {said}"
    )


def _id(sight: Sight | None) -> str:
    return sight.id if sight else "-"


def _both(before: Sight | None, now: Sight | None, name: str, digits: int) -> str:
    """The same of both scans, a dash where there is none."""
    values = (f"{getattr(sight, name):.{digits}f}" if sight else "-" for sight in (before, now))
    return " > ".join(values)
