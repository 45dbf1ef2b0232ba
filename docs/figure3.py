"""docs/images/figure3.png from docs/results/figure3.csv: `python docs/figure3.py`, after `docs/results.py … figure3`.

Its runs take three CPU hours and were made in parts, so the picture is drawn from the table.
"""

import csv
from pathlib import Path

from physiglot import drawing
from physiglot.phases import figures

HOME = Path(__file__).parent
LABELS = {"transformer": "Transformer", "bilstm": "BiLSTM", "cnn": "CNN", "fcn": "FCN", "flips": "Flip count"}


def main() -> None:
    points: dict[str, list[tuple[int, float, float]]] = {label: [] for label in LABELS.values()}
    with open(HOME / "results/figure3.csv") as file:
        for row in csv.DictReader(file):
            network, _, steps = row["study"].partition("_")[2].partition("_")
            if row["metric"] == "crossing" and row["value"] and steps.isdigit():
                points[LABELS[network]].append((int(steps), float(row["value"]), float(row["error"])))
    with drawing.style():
        figure = figures.against_steps(points, drawing.looks(points))
    stem = HOME / "images/figure3"
    drawing.save(figure, stem)
    stem.with_suffix(".svg").unlink()


if __name__ == "__main__":
    main()
