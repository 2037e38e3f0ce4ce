"""Work dealt out to threads; Numba's kernels let go of Python's lock."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def in_parallel(work, n):
    """What `work(start, stop)` returned for the parts of 0..n, dealt out to as many threads as torch has."""
    threads = min(torch.get_num_threads(), n)
    if threads <= 1:
        return [work(0, n)]
    bounds = [n * i // threads for i in range(threads + 1)]
    return list(_pool(os.getpid(), threads).map(work, bounds[:-1], bounds[1:]))


@cache
def _pool(process, threads):  # by process: threads do not survive a fork
    return ThreadPoolExecutor(threads, thread_name_prefix="fewlabels")
