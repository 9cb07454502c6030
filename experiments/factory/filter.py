"""What the agreement filter does to a data set that was drawn without it, read by the street oracle.

    python experiments/factory/filter.py runs/factory/plain/pairs

An example depends on its number alone, so that the pairs above a threshold are those that `--min-agreement` keeps.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from gcdiff.worlds.streets.scores import agreement, caption_scores

QUANTILES, SIDES = (0.0, 0.25, 0.5, 0.75), ("image", "layout")


def main(folder: Path) -> None:
    with (folder / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    images, layouts = (np.stack([np.asarray(Image.open(folder / row[side])) for row in rows]) for side in SIDES)
    own = np.array([float(row["agreement"]) for row in rows])
    print("kept  own agreement at least  its mean  the oracle's mIoU  F1 of captions")
    for quantile in QUANTILES:
        least = np.quantile(own, quantile)
        kept = own >= least
        seen = agreement(images[kept], layouts[kept].astype(int))
        shown = caption_scores(images[kept], [row["caption"] for row in np.array(rows)[kept]]).f1
        ends = [f"{s.value:.3f} ({s.low:.3f} - {s.high:.3f})" for s in (seen, shown)]
        print(f"{kept.sum()}  {least:.3f}  {own[kept].mean():.3f}  {'  '.join(ends)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
