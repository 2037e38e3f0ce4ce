"""How the C library keeps what is freed."""

import ctypes
import sys

# glibc's malloc.h: what of the heap's top may lie idle, what it grows by beyond what is asked, blocks mapped singly.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
KEPT = {TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**26, MMAP_MAX: 0}
DEFAULT = {TRIM_THRESHOLD: 2**17, TOP_PAD: 2**17, MMAP_MAX: 2**16}


def keep(options: dict[int, int] = KEPT) -> None:
    """Memory that is freed stays with the process. Does nothing where the C library is not glibc.

    By default glibc maps a large block singly and gives it back as soon as it is freed; the system zeroes it anew, page
    by page, when the next tensor of that size comes: a tenth of a training step in 3-D (`bench.precision`).
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, value in options.items():
            libc.mallopt(option, value)
