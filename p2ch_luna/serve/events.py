"""Server-sent events: a job as it goes on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import anyio
from starlette.concurrency import run_in_threadpool

from p2ch_luna.serve.jobs import Job
from p2ch_luna.serve.service import Service

POLL_S = 0.25
COMMENT_S = 15.0  # of silence, after which a comment keeps proxies from ending the connection


async def job_events(service: Service, job_id: str, is_stopping: Callable[[], bool]) -> AsyncIterator[str]:
    """`event: job` with the job at each change, until it has ended; `event: gone` if it is deleted.

    Ends without a word when the server stops: browsers then connect again.
    """
    told: Job | None = None
    spoke = time.monotonic()
    while not is_stopping():
        job = await run_in_threadpool(service.job, job_id)
        if job is None:
            yield "event: gone\ndata: {}\n\n"
            return
        if job != told:
            told, spoke = job, time.monotonic()
            yield f"event: job\ndata: {job.model_dump_json()}\n\n"
            if job.has_ended:
                return
        elif time.monotonic() - spoke >= COMMENT_S:
            spoke = time.monotonic()
            yield ": nothing new\n\n"
        await anyio.sleep(POLL_S)
