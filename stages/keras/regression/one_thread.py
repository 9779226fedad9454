"""Compute NumPy's products in one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let NumPy's linear algebra use one thread meanwhile.

    Threads of OpenBLAS wait for each other without sleeping, so that beside other busy processes small products take
    many times as long. And sums do not depend on the number of cores, which is in no key.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
