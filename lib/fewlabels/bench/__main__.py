"""`python -m fewlabels.bench`: times our warps beside other packages. Wants a quiet machine."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from fewlabels.bench import cases, report
from fewlabels.bench.timing import measure
from fewlabels.paths import results_root


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fewlabels.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, few repeats: does it run? (to warps-smoke/)")
    parser.add_argument(
        "--threads", type=int, default=min(os.cpu_count() or 1, 2), help="of torch (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, help="of each pair (default: 25, quick 3)")
    parser.add_argument("--seconds", type=float, default=30, help="after which a pair has repeats enough (default: 30)")
    parser.add_argument("--results", default=results_root(), help="root of the result folders (default: results)")
    args = parser.parse_args(arguments)
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' own, and that strong fields fold
        for pair in cases.pairs(args.quick):
            torch.set_num_threads(pair.threads or args.threads)
            row = measure(pair, args.repeats or (3 if args.quick else 25), args.seconds)
            rows.append(row)
            said = f"{row['ratio']:8.2f} {row['met']}" if row["state"] == "measured" else row["state"]
            print(f"{row['case']}, {row['device']}, {row['work']}, {row['peer']}: {said}", flush=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    folder = Path(args.results) / "bench" / ("warps-smoke" if args.quick else "warps")
    report.write(rows, folder)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
