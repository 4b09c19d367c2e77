"""What is told of the stages of a diagnosis, and how often."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from p2ch_luna.serve.jobs import Stage
from p2ch_luna.serve.stages import Stages


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def told() -> list[list[Stage]]:
    return []


@pytest.fixture
def stages(watch: Watch, told: list[list[Stage]]) -> Stages:
    def tell(said: Sequence[Stage]) -> None:
        told.append(list(said))

    return Stages(tell, watch)


def test_a_stage_is_told_as_it_begins_and_the_one_before_as_done(
    stages: Stages, watch: Watch, told: list[list[Stage]]
) -> None:
    stages.stage("reading")
    watch.seconds += 1.5
    stages.stage("segmentation", 4)
    assert told == [
        [Stage(name="reading")],
        [Stage(name="reading", seconds=1.5), Stage(name="segmentation", fraction=0.0)],
    ]


def test_steps_are_told_a_few_times_a_second(stages: Stages, watch: Watch, told: list[list[Stage]]) -> None:
    stages.stage("segmentation", 100)
    for _ in range(100):
        watch.seconds += 0.01
        stages.advance()
    assert 4 <= len(told) <= 6
    assert told[1][-1].fraction == pytest.approx(0.2, abs=0.02)


def test_more_steps_than_were_expected_are_no_more_than_all(
    stages: Stages, watch: Watch, told: list[list[Stage]]
) -> None:
    stages.stage("segmentation", 2)
    watch.seconds += 1
    stages.advance(5)
    assert told[-1][-1].fraction == 1.0


@pytest.mark.parametrize("total", [None, 0])
def test_without_steps_there_is_no_fraction(
    stages: Stages, told: list[list[Stage]], total: float | None
) -> None:
    stages.stage("lungs", total)
    stages.end()
    assert [stage.fraction for said in told for stage in said] == [None, None]


def test_at_the_end_all_are_done(stages: Stages, watch: Watch, told: list[list[Stage]]) -> None:
    stages.stage("segmentation", 4)
    watch.seconds += 2
    stages.end()
    assert told[-1] == [Stage(name="segmentation", fraction=1.0, seconds=2.0)]
