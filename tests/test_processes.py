"""Processes that answer tasks, how they end, and what a signal does to the one that leads them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest

from p2ch_luna.processes import Crew, Ended, terminable
from support.answering import start, start_deaf

FIRST_IS_HELD = """
from collections import deque
from support.answering import start
from p2ch_luna.processes import Crew

if __name__ == "__main__":
    crew = Crew(1, start)
    crew.hand_out(deque(["held"]))
    print(*crew.answers())
    crew.end()
"""


ONE_SLEEPS = """
import sys
from collections import deque
from functools import partial
from pathlib import Path
from support.answering import start
from p2ch_luna.processes import Crew

if __name__ == "__main__":
    crew = Crew(1, partial(start, Path(sys.argv[1])))
    crew.hand_out(deque(["sleep"]))
    list(crew.answers())
"""


def all_answers(crew: Crew[str, str], *tasks: str) -> list[tuple[str, str | Ended]]:
    """What comes of the tasks; no process is left."""
    left, found = deque(tasks), []
    try:
        while left or crew.is_busy:
            crew.hand_out(left)
            found += crew.answers()
    finally:
        crew.end()
    return found


def test_each_task_is_answered_once() -> None:
    assert sorted(all_answers(Crew(2, start), "a", "b", "c")) == [
        ("a", "a done"),
        ("b", "b done"),
        ("c", "c done"),
    ]


def test_a_process_that_dies_costs_its_task_alone_and_another_takes_its_place(tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = all_answers(Crew(1, partial(start, log)), "a", "kill", "exit", "b")
    assert found == [("a", "a done"), ("kill", Ended(-9)), ("exit", Ended(3)), ("b", "b done")]
    assert len(log.read_text(encoding="utf-8").splitlines()) == 3


def test_tasks_stay_where_no_process_is_free() -> None:
    crew, tasks = Crew(1, start), deque(["sleep", "a", "b"])
    try:
        crew.hand_out(tasks)
        crew.hand_out(tasks)
        assert list(tasks) == ["a", "b"]
        assert crew.is_busy
    finally:
        crew.end()


def test_what_is_under_way_at_the_end_is_given_up() -> None:
    crew, tasks = Crew(2, start), deque(["sleep", "a"])
    crew.hand_out(tasks)
    answers = crew.answers()
    assert next(answers) == ("a", "a done")
    assert crew.end() == ["sleep"]
    assert active_children() == []


def test_a_process_that_does_not_end_is_killed_when_patience_is_over() -> None:
    crew, tasks = Crew(1, start_deaf), deque(["a", "sleep"])
    crew.hand_out(tasks)
    assert list(crew.answers()) == [("a", "a done")]  # it is deaf by now
    crew.hand_out(tasks)
    begun = time.monotonic()
    assert crew.end(0.2) == ["sleep"]
    assert time.monotonic() - begun >= 0.2
    assert active_children() == []


def test_no_answer_by_the_time_is_none_and_the_task_goes_on() -> None:
    crew, tasks = Crew(1, start), deque(["sleep"])
    try:
        crew.hand_out(tasks)
        assert list(crew.answers(0.1)) == []
        assert crew.is_busy
    finally:
        crew.end()


def test_after_the_end_tasks_get_new_processes() -> None:
    crew = Crew(1, start)
    crew.hand_out(deque(["sleep"]))
    crew.end()
    crew.hand_out(deque(["a"]))
    try:
        assert list(crew.answers()) == [("a", "a done")]
    finally:
        crew.end()


def test_a_process_at_work_ends_with_the_leading_one_when_that_is_killed(tmp_path: Path) -> None:
    log, environment = tmp_path / "log", {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", ONE_SLEEPS, str(log)], env=environment) as leading:
        while not (log.exists() and log.read_text(encoding="utf-8").endswith("\n")):
            assert leading.poll() is None
            time.sleep(0.02)
        leading.kill()
    worker = Path("/proc") / log.read_text(encoding="utf-8").strip()
    until = time.monotonic() + 2
    while worker.exists() and ") Z" not in (worker / "stat").read_text(encoding="utf-8"):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_who_ends_when_asked_says_so_and_heeds_what_is_open() -> None:
    code = """
import os, signal
from p2ch_luna.processes import end_when_asked
end_when_asked()
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    print("heeded")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "heeded\n"
    assert Ended(done.returncode).was_asked_to


def test_who_is_asked_twice_still_closes_what_is_open() -> None:
    code = """
import os, signal
from p2ch_luna.processes import end_when_asked
end_when_asked()
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    os.kill(os.getpid(), signal.SIGTERM)
    print("closed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "closed\n"
    assert not done.stderr


@pytest.mark.parametrize(
    ("code", "was_asked"), [(-signal.SIGTERM, True), (-signal.SIGKILL, False), (1, False)]
)
def test_who_was_killed_otherwise_was_not_asked(code: int, was_asked: bool) -> None:
    assert Ended(code).was_asked_to == was_asked


def test_interrupts_are_left_to_the_leading_process_by_the_first_too() -> None:
    """In an interpreter that has started no process before."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    told = subprocess.run(
        [sys.executable, "-c", FIRST_IS_HELD], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout == "('held', 'True')\n"


def test_the_leading_process_hears_interrupts_afterwards() -> None:
    all_answers(Crew(1, start), "a")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize(
    ("code", "how"), [(-9, "was killed by signal 9 (out of memory?)"), (3, "ended with code 3")]
)
def test_how_a_process_ended_is_said(code: int, how: str) -> None:
    said = f"the process that prepared it {how}; try again with fewer workers"
    assert Ended(code).reason("prepared") == said


def test_sigterm_is_an_interrupt_within_the_block() -> None:
    """In a process of its own, which alone it would end."""
    code = """
import os, signal, time
from p2ch_luna.processes import terminable
try:
    with terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
except KeyboardInterrupt as caught:
    print(caught.args[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == signal.SIGTERM


def test_the_handler_of_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), terminable():
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_changes_no_handler() -> None:
    heard: list[bool] = []

    def run() -> None:
        with terminable():
            heard.append(signal.getsignal(signal.SIGTERM) is before)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert heard == [True]
