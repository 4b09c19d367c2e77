"""The words and tables of `report.html`; whatever comes from a scan is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from p2ch_luna.findings import Point
from p2ch_luna.report.rates import false_positives_text, probability_text
from p2ch_luna.report.schema import PLANES, Finding, Plane, Report

HEADER = (
    ("", "Picture"),
    ("", "Finding"),
    ("mean of the longest and the perpendicular diameter", "Size"),
    ("and mean density, Lung-RADS v2022 size category as a hint for research", "Texture"),
    ("that this is a nodule, from both stages", "Nodule"),
    ("of malignancy", "Suspicion"),
)


def banner(report: Report) -> str:
    """The line that stays in view."""
    return (
        f'<div class="banner"><strong>{escape(report.statement)}</strong>'
        f"<span>{escape(report.scan.name)}</span></div>"
    )


def heading(report: Report) -> str:
    """What was searched, and how many findings there are."""
    scan = report.scan
    slices, rows, columns = scan.shape_irc
    x, y, z = scan.spacing_xyz_mm
    facts = [
        f"{slices} slices of {columns} × {rows}",
        f"{x:.3g} × {y:.3g} × {z:.3g} mm",
        "DICOM" if scan.format == "dicom" else scan.format.removeprefix("."),
        *([scan.series[0].description] if scan.series and scan.series[0].description else []),
    ]
    shown = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    count = "Not searched" if not report.is_searched else report.count if report.findings else "No finding"
    return f'<header><h1>{escape(count)}</h1><ul class="facts">{shown}</ul></header>'


def warnings(report: Report) -> str:
    """What the reader has to know before believing anything below."""
    if not report.warnings:
        return ""
    lines = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    return f'<section class="warnings" aria-label="Warnings"><h2>Warnings</h2><ul>{lines}</ul></section>'


def findings_table(report: Report, thumbnails: Mapping[str, str]) -> str:
    """A row for each finding; thumbnails: data URIs by its id."""
    if not report.findings:
        return _nothing_found(report)
    head = "".join(f'<th scope="col" title="{note}">{name}</th>' for note, name in HEADER)
    rows = "".join(
        _row(place, finding, thumbnails.get(finding.id, "")) for place, finding in enumerate(report.findings)
    )
    return (
        '<section><h2>Findings</h2><p class="note">The most probable first. Select one to see it in the '
        f'viewer.</p><table class="findings"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="note">Suspicion of malignancy: {escape(report.malignancy_is)}; below it, what the '
        "diameter alone says. Lung-RADS: the size category of v2022 at a first screening, a hint for "
        "research.</p></section>"
    )


def _row(place: int, finding: Finding, thumbnail: str) -> str:
    picture = f'<img src="{thumbnail}" alt="" width="76" height="76">' if thumbnail else ""
    where = [part for part in (finding.side, finding.third and f"{finding.third} third") if part]
    pleura = [] if finding.pleura_mm is None else [_pleura(finding.pleura_mm)]
    suspicion = finding.malignancy_probability
    cells = [
        (f"<b>{escape(finding.id)}</b>", [" ".join(where), f"slice {finding.slice_number}", *pleura]),
        (
            f"<b>{finding.mean_diameter_mm:.1f}</b> mm",
            [
                f"{finding.longest_mm:.1f} × {finding.perpendicular_mm:.1f} mm",
                f"{finding.volume_mm3:.0f} mm³",
                *(["cut off: larger"] if finding.is_cut_off else []),
            ],
        ),
        (
            f"<b>{finding.texture}</b>",
            [_signed(finding.mean_hu, "HU"), *_solid_part(finding), f"Lung-RADS {finding.lung_rads}"],
        ),
        (f"<b>{probability_text(finding.nodule_probability)}</b>{_meter(finding.nodule_probability)}", []),
        (
            "not judged" if suspicion is None else f"<b>{probability_text(suspicion)}</b>{_meter(suspicion)}",
            [f"by size {probability_text(finding.malignancy_by_diameter)}"],
        ),
    ]
    shown = "".join(
        f'<td data-label="{name}">{main}{_lines(lines)}</td>'
        for (main, lines), (_, name) in zip(cells, HEADER[1:], strict=True)
    )
    return f'<tr tabindex="0" data-finding="{place}"><td class="thumbnail">{picture}</td>{shown}</tr>'


def _pleura(mm: float) -> str:
    return "at the pleura" if mm == 0 else f"pleura {mm:.0f} mm"


def _solid_part(finding: Finding) -> list[str]:
    return [f"solid part {finding.solid_mm:.1f} mm"] if finding.texture == "part-solid" else []


def _meter(share: float) -> str:
    """A bar; an SVG, since the page allows no style of its own to an element."""
    return (
        f'<svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="all" width="100" height="6"/>'
        f'<rect class="share" width="{100 * share:.0f}" height="6"/></svg>'
    )


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"<small>{escape(line)}</small>" for line in lines if line)


def _nothing_found(report: Report) -> str:
    if not report.is_searched:
        told = "No lungs were found, so nothing was searched: this page says nothing of nodules in this scan."
        return f"<section><h2>Findings</h2><p>{told}</p></section>"
    settings = report.settings
    point = settings.operating_point
    judged = [r.nodule_probability for r in report.rejected if r.nodule_probability is not None]
    lines = [
        f"No place in this scan has a nodule probability of {settings.finding_threshold:.2g} or more.",
        f"{len(judged)} candidate{'s lie' if len(judged) > 1 else ' lies'} below it, the highest at "
        f"{max(judged):.2g}: see below."
        if judged
        else "Nothing that was proposed was judged: see below."
        if report.rejected
        else "Nothing was proposed at all.",
    ]
    if point is not None:
        lines.append(
            f"That threshold is the operating point of {false_positives_text(point.fp_per_scan)}, at which "
            f"{point.sensitivity:.0%} of nodules were found when it was fitted; some may still be there."
        )
    return "<section><h2>Findings</h2>" + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</section>"


def key_images(report: Report, pictures: Mapping[str, Mapping[Plane, str]]) -> str:
    """Three planes of each finding; pictures: data URIs by its id."""
    shown = [finding for finding in report.findings if pictures.get(finding.id)]
    if not shown:
        return ""
    figures = "".join(_figure(finding, pictures[finding.id]) for finding in shown)
    left_out = len(report.findings) - len(shown)
    note = f'<p class="note">{left_out} more findings have theirs beside this page.</p>' if left_out else ""
    return (
        '<section><h2>Key images</h2><p class="note">Lung window, the patient’s right to the left.</p>'
        f"{figures}{note}</section>"
    )


def _figure(finding: Finding, pictures: Mapping[Plane, str]) -> str:
    images = "".join(
        f'<img src="{pictures[plane]}" alt="{escape(finding.id)}, {plane}" width="400" height="400">'
        for plane in PLANES
        if plane in pictures
    )
    place = ", ".join(part for part in (finding.side, finding.third and f"{finding.third} third") if part)
    caption = (
        f"{finding.id} · {place + ' · ' if place else ''}{finding.mean_diameter_mm:.1f} mm {finding.texture}"
    )
    return f'<figure><figcaption>{escape(caption)}</figcaption><div class="planes">{images}</div></figure>'


def run_facts(report: Report) -> str:
    """How the report came about: series, networks, settings, times, candidates that were rejected."""
    settings = report.settings
    point = settings.operating_point
    at = f", {false_positives_text(point.fp_per_scan)}" if point else ", of networks without calibration"
    facts = [
        ["Software", report.software],
        ["Findings from a nodule probability of", f"{settings.finding_threshold:.3g}{at}"],
        [
            "Candidates from a probability of",
            f"{settings.proposal_threshold:g}, at most {settings.max_candidates}",
        ],
        ["Their cores from a probability of", f"{settings.mask_threshold:g}"],
        ["Outlines at, of the highest probability", f"{settings.outline_share:g}"],
        *([["Series", report.scan.series_uid]] if report.scan.series_uid else []),
    ]
    parts = [
        "<section><h2>How this was made</h2>",
        table(["", ""], facts, "plain"),
        _series(report),
        "<h3>Networks</h3>",
        table(
            ["stage", "network", "weights, SHA-256"],
            [[model.stage, model.builder, model.weights_sha256[:16]] for model in report.models],
        ),
        "<h3>Time</h3>",
        table(["stage", "s"], [[stage, f"{s:.2f}"] for stage, s in report.timings_s.items()]),
        _rejected(report),
        "</section>",
    ]
    return "".join(parts)


def _series(report: Report) -> str:
    if not report.scan.series:
        return ""
    rows = [
        [
            series.modality,
            series.description,
            str(series.images),
            "–" if series.thickness_mm is None else f"{series.thickness_mm:g}",
            series.kernel,
            series.remark,
        ]
        for series in report.scan.series
    ]
    header = ["modality", "description", "images", "thickness mm", "kernel", "why, or why not"]
    return "<h3>Series: the one that was read, then the others</h3>" + table(header, rows)


def _rejected(report: Report) -> str:
    if not report.rejected:
        return ""
    rows = [
        [
            "not judged" if r.nodule_probability is None else f"{r.nodule_probability:.3f}",
            f"{r.segmentation_probability:.3f}",
            f"{r.diameter_mm:.1f}",
            _place(r.center_lps_mm),
            r.reason,
        ]
        for r in report.rejected
    ]
    shown = table(["nodule probability", "of the segmentation", "diameter mm", "LPS mm", "why not"], rows)
    return f"<details><summary>Rejected candidates: {len(rows)}</summary>{shown}</details>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "list") -> str:
    """A table of text, escaped; no head where the header is empty."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    thead = f"<thead><tr>{head}</tr></thead>" if any(header) else ""
    return f'<div class="scroll"><table class="{kind}">{thead}<tbody>{body}</tbody></table></div>'


def _place(xyz: Point) -> str:
    return ", ".join(f"{mm:.1f}".replace("-", "−") for mm in xyz)


def _signed(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}".replace("-", "−")
