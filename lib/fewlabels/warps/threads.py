"""Work dealt out to threads: torch's own, where they can be reached.

Between two operators torch's OpenMP threads do not sleep but spin for some milliseconds, and a second pool would share
its cores with them. On two cores (8x1x256x256, order 3, forward, medians) one thread took 6.2 ms, two of Python's 8.5,
two of torch's 6.15 (best 5.8, 6.7 and 4.5). So the work goes to the very threads that spin: GNU's OpenMP runtime, which
comes with torch for Linux, starts a team by one call. Numba's kernels let go of Python's lock meanwhile.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch

GRAIN = 2**15  # values a thread, as torch itself has it


def in_parallel(work: Callable[[int, int], Any], n: int, values: int) -> list[Any]:
    """What `work(start, stop)` returned for the parts of 0..n, dealt out to as many threads as torch has; to fewer, if
    there are few `values` to compute in all: starting two threads takes as long as some 50,000 of them (order 3) or
    100,000 (orders 0 and 1)."""
    threads = min(torch.get_num_threads(), n, values // GRAIN)
    if threads <= 1:
        return [work(0, n)]
    bounds = [n * i // threads for i in range(threads + 1)]
    openmp = _openmp()
    if openmp is None:
        return list(_pool(os.getpid(), threads).map(work, bounds[:-1], bounds[1:]))
    returned = {}

    @TEAM
    def part(_: int | None) -> None:
        i = openmp.omp_get_thread_num()
        for j in range(i, threads, openmp.omp_get_num_threads()):  # the team may be smaller than asked for
            try:
                returned[j] = work(bounds[j], bounds[j + 1])
            except BaseException as error:  # kept: a callback cannot raise
                returned[j] = error

    openmp.GOMP_parallel(part, None, threads, 0)
    for result in returned.values():
        if isinstance(result, BaseException):
            raise result
    return [returned[j] for j in range(threads)]


TEAM = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> ctypes.CDLL | None:
    """The OpenMP runtime that torch has loaded, or None where it is another than GNU's."""
    for path in sorted(Path(torch.__file__).parent.glob("lib/libgomp*")):
        library = ctypes.CDLL(str(path))
        library.GOMP_parallel.argtypes = TEAM, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
        library.GOMP_parallel.restype = None
        return library
    return None


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # by process: threads do not survive a fork
    return ThreadPoolExecutor(threads, thread_name_prefix="fewlabels")
