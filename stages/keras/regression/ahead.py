"""Compute the next batch while the present one is summed up: TensorFlow and NumPy leave Python's lock to others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
END = object()


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield `items`, each made in another thread while the one before is used; their errors are raised here."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(next, items, END)
        while (item := coming.result()) is not END:
            coming = thread.submit(next, items, END)
            yield item  # type: ignore[misc]  # mypy does not know that END is none
