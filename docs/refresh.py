"""Write what the documentation takes from elsewhere: `python docs/refresh.py` (tests/test_docs.py checks it is done).

The tables of README.md come from docs/results/*.csv, docs/configuration.md from the schema of the configuration.
"""

import csv
import re
import sys
import types
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

HOME = Path(__file__).parents[1]
FILES = ("operators.yaml", "paper.yaml")  # whose studies docs/results has
sys.path.insert(0, str(HOME / "src"))

from physiglot import checks, config, symbols  # noqa: E402
from physiglot.strict import Strict  # noqa: E402

CONTENTS = {  # metric -> column, as far as a data set has it
    "relative_mse_0_64": "[0, 64)",
    "relative_mse_64_128": "[64, 128)",
    "relative_mse_128_192": "[128, 192)",
    "vpt_mean": "valid time",
    **{
        f"relative_mse_{field}_0_{steps}": field
        for field in ("ux", "uy", "p", "u", "v")
        for steps in (160, 200, 400, 100)
    },
    "strouhal_error": "Strouhal number, error",
    "steps": "steps",
    "trained_below": "trained below",
    "trained_above": "and above",
    "crossing": "P = ½ at",
    "deviation": "minus the transition",
    "order_shift": "shift if steps are shuffled",
    "peak": "central peak at",
    "relaxation_crossing": "λ(t) is flat at",
    "binder_crossing": "cumulants cross at",
    "F_q_relative_error": "F_q, relative error",
    "F_rw_relative_error": "reweighted",
    "ess": "ESS",
    "acc": "acceptance",
    "converged": "converged",
}


# --- tables of results -------------------------------------------------------------------------


def number(row: dict[str, str] | None) -> str:
    """Our value ± its error, and the published one in brackets."""
    if row is None:
        return ""
    if not row["value"] and row.get("source", "").startswith("undefined: "):
        return "–"
    digits = [
        f"{float(row[key]):.{n}g}" if row[key] else "" for key, n in (("value", 3), ("error", 1), ("published", 3))
    ]
    value, error, published = digits
    return (
        (value or "failed")
        + (f" ± {error}" if error and float(error) else "")
        + (f" [{published}]" if published else "")
    )


def table(name: str, systems: list[str]) -> str:
    """A table of results in Markdown, one for each data set of these systems, or of all (docs/results/<name>.csv)."""
    path = HOME / f"docs/results/{name}.csv"
    if not path.is_file():
        return f"*The table follows with docs/results/{name}.csv.*"
    rows: dict[str, dict[str, dict]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["study"], {})[row["metric"]] = row
    studies, text = {k: v for f in FILES for k, v in config.load(HOME / f)["studies"].items()}, []
    rows = {n: r for n, r in rows.items() if not systems or studies[n]["system"] in systems}
    for data in dict.fromkeys((studies[name]["system"], studies[name].get("dataset", "clean")) for name in rows):
        here = {n: r for n, r in rows.items() if (studies[n]["system"], studies[n].get("dataset", "clean")) == data}
        shown = [metric for metric in CONTENTS if any(metric in found for found in here.values())]
        header = " | ".join(CONTENTS[metric] for metric in shown)
        text += [
            f"**{', '.join(filter(None, data))}**",
            "",
            f"| model | | {header} |",
            "|---|---|" + "---|" * len(shown),
        ]
        for name, found in here.items():
            if not any(metric in found and number(found[metric]) != "–" for metric in shown):
                continue  # of a task that other tables show
            cells = " | ".join(number(found.get(metric)) for metric in shown)
            text.append(f"| {studies[name]['label']} | {studies[name]['variant']} | {cells} |")
        text.append("")
    return "\n".join(text).rstrip()


def readme() -> str:
    """README.md with its tables as the results say: `table:<name>`, or of some systems, `table:<name> <system> …`."""
    text = (HOME / "README.md").read_text()
    pattern = re.compile(r"(<!-- table:(\w+)((?: \w+)*) -->\n).*?(\n<!-- /table:\2 -->)", re.DOTALL)
    return pattern.sub(lambda m: m[1] + table(m[2], m[3].split()) + m[4], text)


# --- the configuration -------------------------------------------------------------------------


def parts(annotation: Any) -> list[type[Strict]]:
    """The parameter classes in a type."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation] if issubclass(annotation, Strict) else []
    return [found for inner in get_args(annotation) for found in parts(inner)]


def kind(annotation: Any) -> str:
    """A type in words: `int`, `list of float`, `one of last, best`, `name -> Split`, `int or null`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "`null`"
    if origin is Literal:
        return "one of " + ", ".join(f"`{v}`" for v in inner)
    if origin is list:
        return f"list of {kind(inner[0])}"
    if origin is dict:
        return f"{'name' if inner[0] is str else kind(inner[0])} → {kind(inner[1])}"
    if origin is types.UnionType or str(origin) == "typing.Union":
        return " or ".join(kind(i) for i in inner)
    if hasattr(annotation, "__metadata__"):
        return kind(inner[0])
    if parts(annotation):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return {"str": "text", "bool": "`true` or `false`", "Any": "anything"}.get(annotation.__name__, annotation.__name__)


def bounds(field: Any) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [f"{sign} {getattr(m, key):g}" for m in field.metadata for key, sign in signs.items() if hasattr(m, key)]
    return ", ".join(["", *found])


def default(field: Any) -> str:
    """As it would be written in the configuration."""
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Strict):
        value = value.model_dump(include=value.model_fields_set) or "see there"
        return value if isinstance(value, str) else code(value)
    if isinstance(value, dict):
        value = {k: v.model_dump(exclude_unset=True) if isinstance(v, Strict) else v for k, v in value.items()}
    return "" if value in ("", {}, []) else code(value)


def code(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{text}`"


def section(schema: type[Strict], level: str, title: str) -> list[str]:
    text = [f"{level} {title}", ""]
    if not schema.model_fields:
        return [*text, "No parameters.", ""]
    text += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in schema.model_fields.items():
        cells = (f"`{name}`", kind(field.annotation) + bounds(field), default(field), field.description or "")
        text.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    return [*text, ""]


def nested(schemas: list[type[Strict]]) -> list[type[Strict]]:
    """The classes and all that stand in their fields, each once, in the order in which they are met."""
    found: dict[str, type[Strict]] = {}
    todo = list(schemas)
    while todo:
        schema = todo.pop(0)
        if schema.__name__ not in found:
            found[schema.__name__] = schema
            todo += [p for field in schema.model_fields.values() for p in parts(field.annotation)]
    return list(found.values())


def configuration() -> str:
    """docs/configuration.md."""
    text = [HEAD.strip(), ""]
    for schema in nested([config.Config]):
        text += section(schema, "##", "Top level" if schema is config.Config else schema.__name__)
    inner: list[type[Strict]] = []
    for folder in ("systems", "models", "tasks"):
        text += [f"## Parameters of the {folder}", ""]
        for path in sorted((symbols.PACKAGE / folder).glob("*.py")):
            if path.stem != "__init__":
                schema = checks.params_of(folder, path.stem, "")
                inner += [p for field in schema.model_fields.values() for p in parts(field.annotation)]
                text += section(schema, "###", f"`{folder}/{path.stem}.py`")
    text += ["## Shared parameters", ""]
    for schema in nested(inner):
        text += section(schema, "###", schema.__name__)
    return "\n".join(text).rstrip() + "\n"


HEAD = """
# Every key of the configuration

Made from the schema by `python docs/refresh.py`; do not edit.

`config.yaml` is the demo, `paper.yaml` lays the published sizes over it: a file that begins with `base: config.yaml`,
or with a list of files, is merged into them, key by key. Unknown keys, wrong types and impossible values stop the
workflow before anything runs and say, in one sentence, which key it is, what was given and what is allowed.
`--config only=lorenz` runs the studies of one system alone, and `only=ours_*` those of such a name; a list of both is
allowed. Other keys of `--config` are YAML, laid over the file:
`--config 'studies={ours_clean: {seeds: [0, 1]}}' 'tracking={uri: null}'`.
"""


if __name__ == "__main__":
    (HOME / "README.md").write_text(readme())
    (HOME / "docs/configuration.md").write_text(configuration())
