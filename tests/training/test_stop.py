"""Signals are heard as a wish to stop, and as ever afterwards."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from p2ch_luna.training.stop import Interrupted, Stop, listening


def test_nobody_has_asked_at_first() -> None:
    assert not Stop().is_asked


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_wish_to_stop(number: signal.Signals) -> None:
    with listening() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal_number == number


def test_a_second_interrupt_stops_at_once() -> None:
    def twice() -> None:
        with listening():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()


def test_a_second_sigterm_still_waits_for_the_step() -> None:
    with listening() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.is_asked


def test_handlers_are_put_back_whatever_happens() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def fail() -> None:
        with listening():
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_hears_nobody_and_changes_no_handler() -> None:
    heard: list[bool] = []

    def listen() -> None:
        with listening() as stop:
            heard.append(stop.is_asked)
            heard.append(signal.getsignal(signal.SIGTERM) is before)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert heard == [False, True]


def test_what_stopped_a_run_is_said() -> None:
    assert str(Interrupted(signal.SIGTERM, 12)) == "stopped after step 12 by SIGTERM"
