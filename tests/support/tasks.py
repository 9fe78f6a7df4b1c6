"""Running something beside the test's own task."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def beside(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that does not know what the caller holds, as that of another request."""
    return asyncio.create_task(work, context=Context())
