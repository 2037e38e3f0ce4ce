"""How much of a data set is there: what `check` says of it, and when it refuses."""

from collections.abc import Callable, Sequence

from fewlabels.errors import BadInput


def of_all(found: int, everything: int, what: str, missing: Sequence[str] = ()) -> str:
    """`98 of 100 patients, without patient003, patient007`; of more than three missing the first three and how many
    more."""
    missing = list(missing)
    more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
    without = f", without {', '.join(missing[:3])}{more}" if missing else ""
    return f"{found:,} of {everything:,} {what}{without}"


def paper_split(where: object, there: str, official: bool, make: Callable[[], object]) -> str:
    """Whether `make()`, the split with the paper's numbers, can be made of what is `there`: "" if it can.

    Raises `BadInput` if it cannot and the files are the `official` ones. A copy or stand-in never stands for the paper;
    its report only says so, with what is returned.
    """
    try:
        make()
    except BadInput as error:
        if official:
            raise BadInput.from_line(f"{where}: the paper's split cannot be made of {there}: {error}") from None
        return f"; the paper's split cannot be made: {error}"
    return ""
