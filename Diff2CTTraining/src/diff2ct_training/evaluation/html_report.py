"""One HTML page with everything a reader needs to judge the methods: no other file, no network, no script but table sorting."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape

from diff2ct import __version__
from diff2ct_training.evaluation.catalog import HEADLINES, SECTIONS, Section, column_of
from diff2ct_training.evaluation.dataset_report import GRID_CEILING, LEGACY_FID, ONE_SAMPLE, ORACLE, DatasetReport
from diff2ct_training.evaluation.plots import ReportFigure
from diff2ct_training.evaluation.statistics import sample_sd, values_of
from diff2ct_training.evaluation.tables import Cell, Row, Table, format_number
from diff2ct_training.figures import NOTICE
from diff2ct_training.scoring.breach import GRADES, grade

_ARROWS = {"up": "&#8593;", "down": "&#8595;", "zero": "&#8594;&thinsp;0", "": ""}
_MINUS = "&#8722;"


def html_report(
    datasets: Sequence[DatasetReport], figures: Mapping[str, Sequence[ReportFigure]], settings: Sequence[tuple[str, str]]
) -> str:
    """The page. figures: by dataset."""
    names = " and ".join(f"{escape(d.name)} ({_count(len(d.cases), 'case')})" for d in datasets)
    methods = _count(len([m for m in datasets[0].methods if not m.endswith(ONE_SAMPLE)]), "method")
    parts = [
        f"<header><p class=notice>{escape(NOTICE)}</p><h1>Two X-rays to CT: how good?</h1>",
        f"<p class=lead>{methods} on {names}. Every method got the same two X-rays, every score one protocol.</p>",
        _contents(datasets),
        "</header><main>",
    ]
    for dataset in datasets:
        parts.append(_dataset(dataset, figures[dataset.name]))
    parts += [_how_to_read(), _made_by(settings), "</main>"]
    title = "Diff2CT evaluation"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_CSS}</style></head>\n<body>'
        + "\n".join(parts)
        + f"<footer>diff2ct {escape(__version__)} - {escape(NOTICE)}</footer><script>{_SORT}</script></body></html>\n"
    )


def _contents(datasets: Sequence[DatasetReport]) -> str:
    links = [f'<a href="#{_slug(d.name)}">{escape(d.name)}</a>' for d in datasets]
    links += ['<a href="#read">How to read this</a>', '<a href="#made">How it was made</a>']
    return f"<nav>{' '.join(links)}</nav>"


def _dataset(dataset: DatasetReport, figures: Sequence[ReportFigure]) -> str:
    slug = _slug(dataset.name)
    parts = [
        f'<section id="{slug}"><h2>{escape(dataset.name)} <span class=count>{_count(len(dataset.cases), "case")}</span></h2>',
        _tiles(dataset),
    ]
    first, *rest = figures
    parts.append(_figure(first))
    for section, table in dataset.tables:
        if section.leads:
            parts.append(_table(section, table))
    parts += [_figure(figure) for figure in rest]
    for section, table in dataset.tables:
        if not section.leads:
            parts.append(_table(section, table))
            if section.title == "Pedicle screws":
                parts.append(_screws(dataset))
    parts += [_distribution(dataset), _case_table(dataset), "</section>"]
    return "\n".join(parts)


def _tiles(dataset: DatasetReport) -> str:
    """The reference's headline scores, each beside the best of the others."""
    tiles = []
    p_values = {(t["method"], t["metric"]): t["p_holm"] for t in dataset.tests}
    for metric in HEADLINES:
        column = column_of(metric)
        means = {
            m: values_of([r for r in dataset.rows if r["method"] == m], metric)
            for m in dataset.methods
            if not m.startswith(ORACLE)
        }
        means = {m: v for m, v in means.items() if len(v)}
        own = means.pop(dataset.reference, None)
        means.pop(f"{dataset.reference}{ONE_SAMPLE}", None)
        if own is None:
            continue
        sign = -1 if column.arrow == "up" else 1
        mean, unit = float(own.mean()), f"&nbsp;{escape(column.unit)}" if column.unit else ""
        sd = f" &#177; {_number(sample_sd(own), mean)}" if len(own) > 1 else ""
        beside = ""
        if means:
            rival = min(means, key=lambda m: sign * float(means[m].mean()))
            ahead = sign * float(own.mean()) < sign * float(means[rival].mean())
            p = p_values.get((rival, metric))
            sure = "" if p is None else f", p {_p(p)}"
            word, kind = ("best; next", "ahead") if ahead else ("behind", "behind")
            beside = f"<p class={kind}>{word} {escape(rival)} {_number(float(means[rival].mean()))}{sure}</p>"
        title = f"{escape(column.label)} {_ARROWS[column.arrow]}"
        tiles.append(f"<div class=tile><h3>{title}</h3><p class=value><b>{_number(mean)}</b>{sd}{unit}</p>{beside}</div>")
    return (
        f"<p class=tileshead>{escape(dataset.reference)}, mean &#177; SD over cases</p><div class=tiles>{''.join(tiles)}</div>"
    )


def _table(section: Section, table: Table) -> str:
    heads = "".join(
        f"<th>{escape(c.label)}{f' <i>{escape(c.unit)}</i>' if c.unit else ''} <span class=arrow>{_ARROWS[c.arrow]}</span></th>"
        for c in table.columns
    )
    lines = []
    for method in sorted(table.methods, key=lambda m: m.startswith(ORACLE)):  # oracles last, else as they came
        kind = "oracle" if method.startswith(ORACLE) else "reference" if method == table.reference else ""
        cells = "".join(_cell(cell, table) for cell in table.cells[method])
        lines.append(f'<tr class="{kind}"><th scope=row>{escape(method)}</th>{cells}</tr>')
    width = " class=narrow" if len(table.columns) < 4 else ""
    return (
        f"<h3>{escape(section.title)}</h3><p class=about>{escape(section.about)}</p>"
        f"<div class=scroll><table{width}><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(cell: Cell | None, table: Table) -> str:
    if cell is None:
        return "<td class=none>&#8211;</td>"
    sd = f" <span class=sd>&#177; {_number(cell.sd, cell.mean)}</span>" if math.isfinite(cell.sd) else ""
    interval = f"{_number(cell.low, cell.mean)} to {_number(cell.high, cell.mean)}" if math.isfinite(cell.low) else ""
    below = "".join(f"<small>{line}</small>" for line in (interval, table.number_of(cell)) if line)
    star = "<sup>*</sup>" if cell.differs else ""
    return f'<td class="{"best" if cell.best else ""}" title="n = {cell.n}">{_number(cell.mean)}{star}{sd}{below}</td>'


def _figure(figure: ReportFigure) -> str:
    kind = "svg+xml" if figure.path.suffix == ".svg" else "png"
    data = base64.b64encode(figure.path.read_bytes()).decode("ascii")
    title, width = escape(figure.title), f"max-width:{figure.width_px}px"
    return (
        f'<figure class="{"wide" if figure.wide else ""}"><figcaption><b>{title}.</b> {escape(figure.caption)}</figcaption>'
        f'<img alt="{title}" style="{width}" src="data:image/{kind};base64,{data}"></figure>'
    )


def _screws(dataset: DatasetReport) -> str:
    """How many screws there are, how many were found, and how their grades moved, per method."""
    if not dataset.screws:
        return ""
    lines = []
    for method in dataset.methods:
        rows = [row for row in dataset.screws if row["method"] == method]
        found = [row for row in rows if row.get("found")]
        moves = [int(row["grade_change"]) for row in found if "grade_change" in row]
        grades = [grade(row["true_breach_mm"]) for row in rows if math.isfinite(row.get("true_breach_mm", math.nan))]
        true = " ".join(f"{GRADES[g]} {grades.count(g)}" for g in range(len(GRADES)) if g in grades)
        moved = f"{sum(move != 0 for move in moves)} of {len(moves)}" if moves else "&#8211;"
        cells = "".join(f"<td>{cell}</td>" for cell in (len(rows), len(found), true, moved))
        lines.append(f"<tr><th scope=row>{escape(method)}</th>{cells}</tr>")
    return (
        "<div class=scroll><table class=narrow><thead><tr><th></th><th>true screws</th><th>found</th><th>true grades</th>"
        f"<th>grade changed</th></tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _distribution(dataset: DatasetReport) -> str:
    if not dataset.distribution:
        return ""
    planes = list(dict.fromkeys(row["plane"] for row in dataset.distribution))
    heads = "".join(f"<th>FID {p}</th><th>KID {p} <i>x 1000</i></th>" for p in planes) + "<th>FID per case <i>legacy</i></th>"
    lines = []
    for method in dict.fromkeys(row["method"] for row in dataset.distribution):
        of_method = {row["plane"]: row for row in dataset.distribution if row["method"] == method}
        cells = "".join(
            f"<td>{of_method[p]['fid']:.1f}</td><td>{1000 * of_method[p]['kid']:.2f}</td>" for p in planes if p in of_method
        )
        legacy = f"<td>{of_method['mean']['fid_per_case_legacy']:.1f}</td>" if "mean" in of_method else ""
        lines.append(f"<tr><th scope=row>{escape(method)}</th>{cells}{legacy}</tr>")
    one = dataset.distribution[0]
    about = (
        f"Features ({one['features']}) of the slices of all cases pooled, per plane ({one['slices']} axial slices), and their "
        f"mean. FID is biased upwards with few slices, KID is not; neither is comparable across papers. {LEGACY_FID}"
    )
    table = f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f"<h3>Distribution of slices</h3><p class=about>{escape(about)}</p><div class=scroll>{table}</div>"


def _case_table(dataset: DatasetReport) -> str:
    """The reference's scores, case by case; a click on a head sorts."""
    metrics = [m for m in (*HEADLINES, "screw_tip_error_mm", "screw_recall") if len(values_of(dataset.rows, m))]
    rows = [row for row in dataset.rows if row["method"] == dataset.reference]
    facts = [f for f in ("pixel_spacing_mm", "slice_spacing_mm") if any(f in row for row in rows)]
    titles = {"pixel_spacing_mm": "Pixel [mm]", "slice_spacing_mm": "Slice [mm]"}
    heads = [titles[f] for f in facts] + [_head(m) for m in metrics]
    body = "".join(
        f"<tr><th scope=row>{escape(row['case'])}</th>{''.join(_value(row, name) for name in (*facts, *metrics))}</tr>"
        for row in rows
    )
    head = "".join(f"<th>{h}</th>" for h in ("case", *heads))
    return (
        f"<details><summary>{escape(dataset.reference)} case by case</summary><div class=scroll><table class=sortable>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _head(metric: str) -> str:
    column = column_of(metric)
    return escape(column.label) + (f" [{escape(column.unit)}]" if column.unit else "")


def _value(row: Row, name: str) -> str:
    value = float(row.get(name, math.nan))
    return f'<td data-value="{value if math.isfinite(value) else ""}">{_number(value)}</td>'


def _how_to_read() -> str:
    items = "".join(f"<li>{text}</li>" for text in _READING)
    return f'<section id="read"><h2>How to read this</h2><ul>{items}</ul></section>'


_TESTED = ", ".join(f"<i>{section.title}</i>" for section in SECTIONS if section.tested)
_READING = (
    "<b>Tables:</b> mean &#177; SD over cases, those of one patient averaged before, below it the 95 % bootstrap interval of "
    "the mean (too narrow with fewer than some 20 patients), and n where not all have a score. Bold: best mean, oracles left "
    "out, but for errors of screws and vertebrae, which are of what each method found. <sup>*</sup> differs from the first "
    "method: paired Wilcoxon signed-rank test, p &lt; 0.05, Holm-corrected within "
    f"each of the tables that are tested ({_TESTED}); a bias by how far it is from 0, errors of screws and vertebrae in cases "
    "where both methods found all. Without a star there is no evidence of a difference, which is not evidence of none.",
    "<b>Whole-volume scores flatter everyone.</b> Most of the cube is air, and the window is 5096 HU wide: "
    "<code>oracle-true-body-flat</code>, the true outline filled with 40 HU, has no anatomy at all. A method that does not "
    "clearly beat it there has shown nothing; look inside the body.",
    "<b>Numbers of other papers are not comparable</b> unless window, range, kernel and region agree: the same volumes score "
    "6 dB more PSNR in -1000..4096 than in -1000..1500 HU, 4.3 dB more with MAX 4095 on data that end at 2500, and SSIM rises "
    "with the data range that is assumed. <code>--compat</code> shows by how much here.",
    "<b>A mean of samples is smoother than a sample.</b> It wins on MAE and PSNR by construction (up to 3 dB) and loses "
    "detail; the row <i>one sample</i> is what a single run gives.",
    "<b>Screws and vertebrae</b> say more about use than any voxel score; where screws are not found at all, their errors are "
    "those of the few that were.",
    "<b>The truth is the CT on the grid of the reconstructions.</b> What it lost in getting there, fine bone above all, is in "
    "no score, so that <code>oracle-truth</code> is perfect by construction. Screws alone are known better than by voxels: "
    "what the grid and the detector cost there, <code>oracle-truth</code> shows.",
    f"<b>The ceiling of the grid.</b> {GRID_CEILING}",
    "<b>Phantoms are not patients.</b> Data sets are never averaged together.",
)


def _made_by(settings: Sequence[tuple[str, str]]) -> str:
    lines = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td class=text>{escape(value)}</td></tr>" for name, value in settings
    )
    files = (
        "per_case.csv has every score of every case with what made it, per_screw.csv every screw, summary.csv every mean and "
        "interval, tests.csv every test."
    )
    return f'<section id="made"><h2>How it was made</h2><table class=narrow>{lines}</table><p>{files}</p></section>'


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _number(value: float, like: float | None = None) -> str:
    if math.isfinite(value):
        return format_number(value, like).replace("-", _MINUS)
    return "&#8211;" if math.isnan(value) else "&#8734;"


def _p(p: float) -> str:
    return "&lt; 0.001" if p < 0.001 else f"{p:.2g}"


def _slug(name: str) -> str:
    return name.replace(" ", "-").lower()


_CSS = """
:root{--ink:#1f2933;--faint:#6b7783;--rule:#e1e6eb;--accent:#0b6e99;--tint:#f0f6f9}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
body{margin:0;color:var(--ink);background:#fff;font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
 font-variant-numeric:tabular-nums}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 28px}
header{padding-top:44px}
h1{font-size:34px;line-height:1.15;margin:6px 0 8px;letter-spacing:-.02em}
h2{font-size:25px;margin:64px 0 14px;padding-top:18px;border-top:3px solid var(--ink);letter-spacing:-.01em}
h2 .count{font-weight:400;color:var(--faint);font-size:17px;margin-left:6px}
h3{font-size:17px;margin:40px 0 2px}
.notice{color:var(--faint);font-size:12.5px;margin:0}
.lead{font-size:18px;color:#3e4c59;margin:0 0 18px}
nav{display:flex;gap:20px;flex-wrap:wrap}
nav a{color:var(--accent);text-decoration:none;border-bottom:1px solid #b9d8e5}
.tileshead{color:var(--faint);margin:0 0 8px;font-size:13.5px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:14px}
.tile{border:1px solid var(--rule);border-radius:10px;padding:14px 16px}
.tile h3{margin:0;font-size:13.5px;font-weight:600;color:var(--faint)}
.tile .value{margin:2px 0 4px;color:var(--faint);font-size:15px}
.tile b{font-size:29px;color:var(--ink);letter-spacing:-.02em;font-weight:650}
.tile i{font-style:normal}
.tile p:last-child{margin:0;font-size:13px}
.ahead{color:#2f6b2b}.behind{color:#a24612}
.about{color:var(--faint);margin:0 0 10px;font-size:13.5px;max-width:62em}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px}
table.narrow{width:auto;min-width:50%;margin-top:12px}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top;white-space:nowrap}
thead th{font-weight:600;border-bottom:1.5px solid var(--ink);vertical-align:bottom;white-space:normal}
th[scope=row],thead th:first-child{text-align:left;font-weight:500}
th i{font-style:normal;font-weight:400;color:var(--faint)}
.arrow,.sd{color:var(--faint);font-weight:400}
td small{display:block;color:#8a96a1;font-size:11px;line-height:1.25;font-weight:400}
td.best{font-weight:700}
td.none{color:#b5bdc6}
td.text{text-align:left;white-space:normal}
tr.reference{background:var(--tint)}
tr.reference th{font-weight:700}
tr.oracle{color:#8a96a1;font-style:italic}
sup{color:var(--accent);font-weight:700;line-height:0}
figure{margin:34px 0}
figure img{width:100%;height:auto;display:block;margin-top:10px}
figure.wide img{background:#000;border-radius:8px}
figcaption{font-size:13.5px;color:var(--faint)}
figcaption b{color:var(--ink)}
details{margin-top:34px}
summary{cursor:pointer;font-weight:600}
table.sortable thead th{cursor:pointer}
#read li{margin-bottom:10px;max-width:62em}
code{font-size:12.5px;background:#f3f5f7;padding:1px 4px;border-radius:4px}
footer{color:var(--faint);font-size:12.5px;padding:50px 28px 40px}
@media print{figure,table,.tile{break-inside:avoid}nav{display:none}body{font-size:11px}}
"""

_SORT = """
document.querySelectorAll('table.sortable').forEach(function(t){t.querySelectorAll('thead th').forEach(function(h,i){
h.addEventListener('click',function(){var b=t.tBodies[0],d=h.dataset.up=h.dataset.up==='1'?'0':'1';
Array.from(b.rows).sort(function(x,y){var a=x.cells[i],c=y.cells[i],u=a.dataset.value,v=c.dataset.value,r;
if(u===undefined)r=a.textContent.localeCompare(c.textContent);else if(u===''||v==='')return(u==='')-(v==='');else r=u-v;
return d==='1'?r:-r}).forEach(function(r){b.appendChild(r)})})})});
"""
