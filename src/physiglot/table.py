"""The table of a paper, our numbers beside the published ones, and the figures that compare its studies."""

import csv
import fnmatch
import io
import json
import re
import statistics
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from . import drawing, files, stage
from .rollout import open_asked

COLUMNS = ("study", "variant", "metric", "value", "error", "seeds", "published", "source")


def _summary(metric: str, runs: list[dict], partial: bool) -> tuple[float | None, float | None]:
    """Mean over the seeds and its standard error; of one seed, the bootstrap error that the task gives.

    A seed without a value makes it a failure, unless the task reports that by itself (`partial`, its `Study.PARTIAL`).
    """
    values = [run[metric] for run in runs if run.get(metric) is not None]
    if not values or (len(values) < len(runs) and not partial):
        return None, None
    if len(values) == 1:
        return values[0], next(r.get(f"{metric}_stderr") for r in runs if r.get(metric) is not None)
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def rows(study: dict, metrics: list[dict], partial: bool = False) -> list[dict]:
    """The long rows of a study: one per metric, an empty value where a seed gave none (failed, or with a reason)."""
    found = []
    for metric in metrics[0]:
        if metric.endswith(("_stderr", "_reason")):
            continue
        value, error = _summary(metric, metrics, partial)
        published = study["published"].get(metric)
        reason = next((run[f"{metric}_reason"] for run in metrics if run.get(f"{metric}_reason")), "")
        found.append(
            {
                "study": study["name"],
                "variant": study["variant"],
                "metric": metric,
                "value": value,
                "error": error,
            }
            | {
                "seeds": sum(run.get(metric) is not None for run in metrics) if partial and value else len(metrics),
                "published": published,
                "source": study["source"]
                if published is not None
                else f"undefined: {reason}"
                if reason and value is None
                else "",
            }
        )
    return found


def _number(value: float | None) -> str:
    if value is None:
        return "failed"
    return f"{value:.2e}" if value and abs(value) < 1e-3 else f"{value:.3g}" if abs(value) < 1e3 else f"{value:.3e}"


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    if row["value"] is None and row["source"].startswith("undefined: "):
        return "–"
    error = f" ± {row['error']:.1g}" if row["error"] else ""
    published = f" [{row['published']:g}]" if row["published"] is not None else ""
    return _number(row["value"]) + error + published


def columns(metrics: list[str], headings: dict[str, str]) -> dict[str, str]:
    """Metric -> heading, in the order of `headings`, whose keys may be patterns; what a star matches is appended."""
    found = {}
    for pattern, heading in headings.items():
        stem = pattern.split("[")[0]
        for metric in fnmatch.filter(metrics, pattern):
            rest = re.sub(r"(?<=\d)_(?=\d)", "–", metric.removeprefix(stem)).replace("_", " ")
            found[metric] = heading if metric == pattern else f"{heading} {rest}"
    return found


def readable(studies: list[dict], found: dict[str, list[dict]], headings: dict[str, str]) -> list[tuple]:
    """One table per dataset: (title, header, lines), a line per study, a column per metric that has a heading."""
    tables = []
    for data in dict.fromkeys((s["system"], s["dataset"]) for s in studies):
        here = [s for s in studies if (s["system"], s["dataset"]) == data]
        by = {s["name"]: {r["metric"]: r for r in found[s["name"]]} for s in here}
        shown = columns(list(dict.fromkeys(m for rows_ in by.values() for m in rows_)), headings)
        lines = [[s["label"], s["variant"], *(_cell(by[s["name"]].get(m)) for m in shown)] for s in here]
        tables.append((", ".join(filter(None, data)), ["model", "variant", *shown.values()], lines))
    return tables


def markdown(spec: dict, tables: list[tuple]) -> str:
    text = [f"# {spec['title']}", "", spec["reference"], ""]
    for title, header, lines in tables:
        text += [f"## {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        text += ["| " + " | ".join(line) + " |" for line in lines] + [""]
    return "\n".join(
        [
            *text,
            "Published values in brackets; ± is the standard error over seeds, or over test series for one seed.",
            "",
            spec["note"],
            "",
        ]
    )


STYLE = (
    "body{font:15px/1.4 sans-serif;margin:2em;color:#222}table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:left;white-space:nowrap}"
    "th{border-bottom:2px solid #444;white-space:normal;vertical-align:bottom}"
    "tr.ours,tr.sound{background:#e8f1fa;font-weight:600}"
)


def html(spec: dict, tables: list[tuple]) -> str:
    parts = [f"<!doctype html><meta charset='utf-8'><title>{escape(spec['title'])}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{escape(spec['title'])}</h1><p>{escape(spec['reference'])}</p>")
    for title, header, lines in tables:
        head = "".join(f"<th>{escape(h)}</th>" for h in header)
        body = "".join(
            f"<tr class='{line[1]}'>" + "".join(f"<td>{escape(c)}</td>" for c in line) + "</tr>" for line in lines
        )
        parts.append(f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    parts.append(
        "<p>Published values in brackets; ± is the standard error over seeds, or over test series for one seed.</p>"
    )
    return "\n".join([*parts, f"<p>{escape(spec['note'])}</p>"])


def _csv(found: list[dict]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in found)
    return buffer.getvalue()


def _open(task: Any, spec: dict, study: dict, metrics: list[dict]) -> Any:
    """The study as its task compares it, its predictions opened lazily, one per seed."""
    asked = study["task"]["params"]
    data = Path(study["data"]) if study["data"] else None
    folders = [Path(folder) / "prediction.zarr" for folder in study["runs"]]
    pairs = [open_asked(data, folder, asked, study.get("target")) for folder in folders]
    return task.Study(
        name=study["name"],
        label=study["label"],
        variant=study["variant"],
        dataset=study["dataset"],
        truth=pairs[0][0],
        predictions=[prediction for _, prediction in pairs],
        metrics=metrics,
        published=study["published"],
        params=task.Params(**study["task"]["params"]),
    )


def table(*, spec: dict, metrics: list[Path], figures: Path, out: Path) -> None:
    """Write the table of `spec` (title, reference, note, studies) as CSV (`out`), Markdown and HTML, and compare.

    `metrics` are those of all its studies and seeds; `spec["studies"]` lists the runs they lie in.
    """
    given = {str(path.parent): json.loads(path.read_text()) for path in metrics}
    by_study = {s["name"]: [given[folder] for folder in s["runs"]] for s in spec["studies"]}
    modules = dict.fromkeys(s["task"]["module"] for s in spec["studies"])
    tasks = {name: import_module(f"physiglot.tasks.{name}") for name in modules}
    partial = {name: getattr(task.Study, "PARTIAL", False) for name, task in tasks.items()}
    found = {s["name"]: rows(s, by_study[s["name"]], partial[s["task"]["module"]]) for s in spec["studies"]}
    drawn: dict[str, Any] = {}
    tables: list[tuple] = []
    for module, task in tasks.items():
        studies = [s for s in spec["studies"] if s["task"]["module"] == module]
        tables += readable(studies, found, task.METRICS)
        drawn |= task.compare([_open(task, spec, s, by_study[s["name"]]) for s in studies])
    drawing.write(drawn, figures)
    files.write(out.with_suffix(".md"), markdown(spec, tables))
    files.write(out.with_suffix(".html"), html(spec, tables))
    files.write(out, _csv([row for study in found.values() for row in study]))


if __name__ == "__main__":
    stage.run(table)
