"""What a result folder says at a terminal: its tables, the best method, the verdicts, and the files to open."""

import csv
import re
from collections import Counter
from itertools import groupby
from pathlib import Path

OURS = re.compile(r"\*\*(.+?)\*\*")  # in a cell: the paper's number stands behind
TO_OPEN = (".md", ".png", ".ipynb")


def summary(folder: Path, best: str = "") -> str:
    """The text. `best`: a pattern of the columns in which the highest value names the best method."""
    parts = []
    for path in sorted(folder.glob("*.md")):
        title, *texts = re.split(r"\n\n+", path.read_text(encoding="utf-8"))
        said = [_table(text, best) if text.startswith("|") else text.split(":")[0].strip("*") for text in texts]
        if tables := [text for text in said if "\n" in text]:
            parts += [f"{title.split(':')[0]}", *(said if len(tables) > 1 else tables)]
    if (path := folder / "claims.csv").exists():
        with path.open(encoding="utf-8", newline="") as file:
            found = Counter(claim["verdict"] for claim in csv.DictReader(file))
        parts.append(f"Claims of the paper: {', '.join(f'{n} {verdict}' for verdict, n in found.most_common())}")
    files = [sorted(path.name for path in folder.glob(f"*{kind}")) for kind in TO_OPEN]
    place = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    parts.append("\n".join([f"To open, in {place}/", *(f"  {', '.join(of)}" for of in files if of)]))
    return "\n\n".join(parts)


def _table(text: str, best: str) -> str:
    """A table in Markdown as aligned columns of our numbers; below it the best method of each column of `best`.

    Empty where it has none.
    """
    head, _, *rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in text.strip().split("\n")]
    ours = [[row[0], *("".join(OURS.findall(cell)) for cell in row[1:])] for row in rows]
    ours = [row for row in ours if any(row[1:])]
    columns = [c for c in range(1, len(head)) if any(row[c] for row in ours)]
    cells = [[head[0], *(head[c] for c in columns)], *([row[0], *(row[c] or "-" for c in columns)] for row in ours)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells] if ours else []
    for c in (c for c in columns if re.fullmatch(best, head[c])):
        lines.append(f"Best, {head[c]}: {_best([(row[0], row[c]) for row in ours if row[c]])}")
    return "\n".join(lines)


def _best(cells: list[tuple[str, str]]) -> str:
    """The best of rows with their values, or of each place, where rows stand for one and a method (`shift, SemiC`)."""
    places = groupby(cells, lambda cell: re.sub(r"^(\w+, )?.*", r"\1", cell[0]))
    found = [max(of, key=lambda cell: float(cell[1].split()[0])) for _, of in places]
    return "; ".join(" ".join(cell) for cell in found)
