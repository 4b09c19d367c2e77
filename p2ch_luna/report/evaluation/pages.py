"""An evaluation as one page of HTML that needs nothing else: no script, no network, pictures inside."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from p2ch_luna.metrics.froc import CPM_FP_PER_SCAN
from p2ch_luna.report import RESEARCH_ONLY
from p2ch_luna.report.axial import SIDE_MM
from p2ch_luna.report.evaluation.pictures import MARK_RING_MM, MOST_NODULES, RING_BEYOND_MM, Pictures
from p2ch_luna.report.evaluation.schema import (
    Compared,
    Evaluation,
    FalsePositive,
    Group,
    Interval,
    NoduleNotFound,
    Score,
)
from p2ch_luna.report.evaluation.scores import FP_PER_SCAN_FOR_GROUPS, OPERATING_FP_PER_SCAN
from p2ch_luna.report.rates import rate_text

PICTURE_NOTE = (
    f"Pictures are axial, {SIDE_MM} mm wide, the patient's left to the right; the bar is 10 mm, the ring "
    f"{RING_BEYOND_MM:g} mm wider than the nodule, or {MARK_RING_MM:g} mm wide round a mark."
)
RATES = tuple(map(rate_text, CPM_FP_PER_SCAN))
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222 }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc }
h3 { font-size: 1rem; margin-top: 1.6rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0 }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #e3e3e3; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { color: #555; font-weight: 600 }
td.uid, th.uid { text-align: left; font-size: .8rem }
img.figure { max-width: 100%; height: auto }
.montage { display: flex; flex-wrap: wrap; gap: .7rem }
.montage figure { margin: 0; width: 180px; font-size: .78rem } .montage figcaption { overflow-wrap: anywhere }
.montage img, .none { width: 180px; height: 180px; display: block; background: #eee }
.none { color: #777; text-align: center; line-height: 180px }
.note { color: #555; font-size: .88rem }
.warning { background: #fff4e0; padding: .3rem .7rem; margin: .3rem 0; overflow-wrap: anywhere }
"""


def page(evaluation: Evaluation, figures: dict[str, bytes], pictures: Pictures) -> str:
    """The text of `index.html`; figures: PNG by caption."""
    names = " and ".join(score.name for score in evaluation.all_scores[:3])
    body = [
        f"<h1>Evaluation of {escape(names)}</h1>",
        f'<p class="note">{escape(evaluation.rules)}. {escape(RESEARCH_ONLY)}</p>',
        *(f'<p class="warning">{escape(warning)}</p>' for warning in evaluation.warnings),
        _froc_table(evaluation),
        *(_figure(png, caption) for caption, png in figures.items()),
    ]
    for score in evaluation.all_scores:
        body += _of_submission(score, pictures, with_name=len(evaluation.all_scores) > 1)
    body += [f'<p class="note">{PICTURE_NOTE}</p>'] if pictures else []
    body += _inputs(evaluation)
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation of {escape(names)}</title><style>{STYLE}</style></head><body>"
    )
    return "\n".join([head, *body, "</body></html>", ""])


def _froc_table(evaluation: Evaluation) -> str:
    header = ["submission", "CPM", "95 %", *(f"{rate} FP" for rate in RATES)]
    rows = [
        [s.name, f"{s.cpm:.3f}", _interval(s.cpm_95), *(f"{p.sensitivity:.3f}" for p in s.froc)]
        for s in evaluation.all_scores
    ]
    parts = [_table(header, rows)]
    if evaluation.others:
        header = [f"minus {evaluation.name}", "CPM", "95 %", "p", *(f"{rate} FP" for rate in RATES)]
        parts.append(_table(header, [_difference_row(other) for other in evaluation.others]))
        parts.append(
            '<p class="note">Differences are paired: scans are drawn anew for both at once. p: two-sided.</p>'
        )
    return "".join(parts)


def _difference_row(other: Compared) -> list[str]:
    by = other.difference
    p = "–" if by.p is None else f"{by.p:.3f}"
    return [
        other.name,
        f"{by.cpm:+.3f}",
        _interval(by.cpm_95, signed=True),
        p,
        *(f"{point.sensitivity:+.3f}" for point in by.froc),
    ]


def _of_submission(score: Score, pictures: Pictures, *, with_name: bool) -> list[str]:
    return [
        f"<h2>{escape(score.name)}</h2>" if with_name else "<h2>What was found</h2>",
        f"<p>{score.found} of {score.nodules} nodules marked, {score.missed} missed, "
        f"{score.false_positives} false positives in {score.scans} scan(s).</p>",
        _confusion_table(score),
        *_group_tables(score),
        *_nodules("Missed nodules", "no mark hits them", score.missed_nodules, pictures),
        *_nodules("Filtered out", _filtered_note(score), score.filtered_nodules, pictures),
        *_false_positives(score.strongest_false_positives, pictures),
    ]


def _filtered_note(score: Score) -> str:
    if score.threshold is None:
        return f"marked, but no mark counts at {OPERATING_FP_PER_SCAN:g} false positive per scan"
    return (
        f"marked with less than {score.threshold:.4g}, the threshold at {OPERATING_FP_PER_SCAN:g} FP per scan"
    )


def _confusion_table(score: Score) -> str:
    rows = [
        [fate.kind, "" if fate.missed is None else str(fate.missed), str(fate.filtered_out), str(fate.found)]
        for fate in score.confusion
    ]
    note = (
        "Filtered out: marked below the threshold at 1 false positive per scan. Malignancy is the suspicion "
        "of radiologists (a mean from 3.5 is malignant, up to 2.5 benign), not pathology."
    )
    return _table(["", "missed", "filtered out", "found"], rows) + f'<p class="note">{note}</p>'


def _group_tables(score: Score) -> list[str]:
    kinds: list[tuple[str, Sequence[Group]]] = [
        ("diameter", score.sizes),
        ("texture", score.textures),
        ("malignancy", score.malignancies),
    ]
    return [
        _table(
            [name, "nodules", f"sensitivity at {FP_PER_SCAN_FOR_GROUPS:g} FP", "95 %"],
            [[g.name, str(g.nodules), f"{g.sensitivity:.3f}", _interval(g.sensitivity_95)] for g in groups],
        )
        for name, groups in kinds
        if groups
    ]


def _nodules(title: str, note: str, nodules: Sequence[NoduleNotFound], pictures: Pictures) -> list[str]:
    captions = [
        (
            pictures.get((n.series_uid, n.center_lps_mm)),
            [f"{n.diameter_mm:.1f} mm{_scored(n.probability)}", _place(n), n.series_uid],
        )
        for n in nodules[:MOST_NODULES]
    ]
    rows = [
        [
            n.series_uid,
            *_xyz(n),
            f"{n.diameter_mm:.1f}",
            _number(n.probability),
            _number(n.malignancy),
            _number(n.texture),
        ]
        for n in nodules
    ]
    header = ["series uid", "x", "y", "z (LPS mm)", "diameter mm", "score", "malignancy", "texture"]
    if pictures and len(nodules) > MOST_NODULES:
        note += f"; the {MOST_NODULES} largest may have a picture, the table has all"
    return _section(f"{title}: {len(nodules)}", note, captions, header, rows)


def _false_positives(marks: Sequence[FalsePositive], pictures: Pictures) -> list[str]:
    captions = [
        (
            pictures.get((m.series_uid, m.center_lps_mm)),
            [f"{m.rank}. score {m.probability:.3f}", _place(m), m.series_uid],
        )
        for m in marks
    ]
    rows = [[m.series_uid, *_xyz(m), _number(m.probability)] for m in marks]
    title, note = f"Strongest false positives: {len(marks)}", "on no nodule and no excluded finding"
    return _section(title, note, captions, ["series uid", "x", "y", "z (LPS mm)", "score"], rows)


def _section(
    title: str,
    note: str,
    captions: Iterable[tuple[bytes | None, list[str]]],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> list[str]:
    if not rows:
        return [f"<h3>{escape(title)}</h3>"]
    shown = list(captions)
    has_pictures = any(png is not None for png, _ in shown)
    tiles = "".join(_tile(png, lines) for png, lines in shown)
    montage = [f'<div class="montage">{tiles}</div>'] if has_pictures else []
    table = _table(header, rows, has_uid=True)
    if montage:
        table = f"<details><summary>as a table</summary>{table}</details>"
    return [f"<h3>{escape(title)}</h3>", f'<p class="note">{escape(note)}</p>', *montage, table]


def _tile(png: bytes | None, lines: Sequence[str]) -> str:
    text = "<br>".join(escape(line) for line in lines)
    if png is None:
        return f'<figure><div class="none">no picture</div><figcaption>{text}</figcaption></figure>'
    return (
        f'<figure><img alt="{escape(lines[0])}" src="{_inline(png)}"><figcaption>{text}</figcaption></figure>'
    )


def _inputs(evaluation: Evaluation) -> list[str]:
    rows = [[i.role, i.name, i.sha256] for i in evaluation.inputs]
    settings = ", ".join(f"{name} {value:g}" for name, value in evaluation.settings.model_dump().items())
    return [
        "<h2>Made from</h2>",
        _table(["file", "name", "SHA-256"], rows),
        f'<p class="note">{escape(evaluation.software)}; {escape(settings)}</p>',
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, has_uid: bool = False) -> str:
    """Cells are text; with `has_uid` the first column holds long ids."""
    uid = ' class="uid"' if has_uid else ""

    def cells(tag: str, values: Sequence[str]) -> str:
        first, *rest = (escape(value) for value in values)
        return f"<tr><{tag}{uid}>{first}</{tag}>" + "".join(f"<{tag}>{v}</{tag}>" for v in rest) + "</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f'<div class="scroll"><table>{cells("th", header)}{body}</table></div>'


def _figure(png: bytes, caption: str) -> str:
    return f'<p><img class="figure" alt="{escape(caption)}" src="{_inline(png)}"></p>'


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"


def _xyz(place: NoduleNotFound | FalsePositive) -> list[str]:
    return [f"{value:.1f}" for value in place.center_lps_mm]


def _place(place: NoduleNotFound | FalsePositive) -> str:
    return f"at {', '.join(_xyz(place))}"


def _scored(probability: float | None) -> str:
    return "" if probability is None else f", score {probability:.3f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _interval(bounds: Interval, *, signed: bool = False) -> str:
    if bounds is None:
        return "–"
    low, high = (f"{bound:+.3f}" if signed else f"{bound:.3f}" for bound in bounds)
    return f"[{low}, {high}]"
