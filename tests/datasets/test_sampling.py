from collections import Counter

import pytest

from p2ch_luna.datasets.sampling import BalancedSampler, Batches, Pick, exact_counts


def sampler(n: int = 20, lengths: tuple[int, ...] = (5, 1000), seed: int = 0) -> BalancedSampler:
    return BalancedSampler(lengths, (0.25, 0.75), n, seed)


def epoch_of(made: BalancedSampler, epoch: int) -> list[Pick]:
    made.set_epoch(epoch)
    return list(made)


def test_shares_are_exact_in_every_epoch() -> None:
    for epoch in range(3):
        assert Counter(pick.source for pick in epoch_of(sampler(), epoch)) == {0: 5, 1: 15}


@pytest.mark.parametrize(
    ("shares", "n", "counts"),
    [
        ((1, 1, 1), 10, (4, 3, 3)),
        ((0.5, 0.3, 0.2), 5, (3, 1, 1)),
        ((0.1, 0.9), 10, (1, 9)),
        ((2, 0), 3, (3, 0)),
    ],
)
def test_the_largest_remainder_is_rounded_up(
    shares: tuple[float, ...], n: int, counts: tuple[int, ...]
) -> None:
    # of (2.5, 1.5, 1) both remainders are a half: the first has it
    assert exact_counts(shares, n) == counts


def test_every_item_comes_before_any_comes_again() -> None:
    made = sampler(n=12, lengths=(5, 1000))  # 3 of the small source an epoch: 15 in 5 epochs
    drawn = [pick.item for epoch in range(5) for pick in epoch_of(made, epoch) if pick.source == 0]
    assert Counter(drawn) == dict.fromkeys(range(5), 3)
    assert sorted(drawn[:5]) == sorted(drawn[5:10]) == list(range(5))


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    made = sampler()
    epoch_of(made, 0)
    assert epoch_of(made, 3) == epoch_of(sampler(), 3)
    assert epoch_of(made, 3) != epoch_of(made, 4)
    assert epoch_of(made, 3) != epoch_of(sampler(seed=1), 3)


def test_no_two_samples_share_a_seed() -> None:
    seeds = [pick.seed for epoch in range(3) for pick in epoch_of(sampler(), epoch)]
    assert len(set(seeds)) == len(seeds) == 60


def test_a_pick_gives_the_same_numbers_each_time() -> None:
    pick = Pick(0, 1, (0, 2, 3))
    assert pick.rng().random() == pick.rng().random()


def test_no_sample_has_the_numbers_of_an_order() -> None:
    made = sampler()
    orders = [made._rng(purpose, *more).random() for purpose in (0, 1) for more in ((), (0,), (0, 0), (1,))]
    samples = [Pick(0, 0, (0, epoch, k)).rng().random() for epoch in range(3) for k in range(5)]
    assert not set(orders) & set(samples)


def test_sources_are_mixed_within_an_epoch() -> None:
    sources = [pick.source for pick in epoch_of(sampler(n=200), 0)]
    assert 0 in sources[:40]
    assert 0 in sources[-40:]


def test_an_empty_source_with_a_share_is_refused() -> None:
    with pytest.raises(ValueError, match="empty source"):
        BalancedSampler([0, 3], [0.5, 0.5], 4, 0)


def batches_of(rank: int = 0, size: int = 1, *, dealt: bool, n: int = 22, first: int = 0) -> Batches:
    """Of 8 samples each, the last of 6."""
    made = Batches(sampler(n=n), 8, rank, size, dealt=dealt)
    made.first = first
    return made


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_parts_of_all_processes_make_each_batch_once(size: int) -> None:
    whole = list(batches_of(dealt=True))
    parts = [list(batches_of(rank, size, dealt=True)) for rank in range(size)]
    for number, batch in enumerate(whole):
        together = [pick for part in parts for pick in part[number]]
        assert len(together) == len(set(together))
        assert sorted(together) == sorted(batch)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_process_has_as_many_samples_of_a_whole_batch(size: int) -> None:
    assert {len(next(iter(batches_of(rank, size, dealt=True)))) for rank in range(size)} == {8 // size}


def test_a_batch_is_dealt_out_pick_by_pick() -> None:
    (whole, *_), (odd, *_) = batches_of(dealt=True), batches_of(1, 2, dealt=True)
    assert odd == whole[1::2]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_whole_batches_are_dealt_out_in_turns(size: int) -> None:
    whole = list(batches_of(dealt=False))
    for rank in range(size):
        assert list(batches_of(rank, size, dealt=False)) == whole[rank::size]


def test_a_process_may_have_no_batch() -> None:
    assert list(batches_of(3, 4, dealt=False)) == []  # of three batches


@pytest.mark.parametrize("dealt", [True, False])
def test_batches_that_are_done_are_left_out(dealt: bool) -> None:
    assert list(batches_of(dealt=dealt, first=1)) == list(batches_of(dealt=dealt))[1:]


@pytest.mark.parametrize("dealt", [True, False])
def test_the_last_batch_has_what_is_left(dealt: bool) -> None:
    assert [len(batch) for batch in batches_of(dealt=dealt)] == [8, 8, 6]


@pytest.mark.parametrize("dealt", [True, False])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("first", [0, 1, 3])
def test_the_number_of_batches_is_known_before(dealt: bool, size: int, first: int) -> None:
    for rank in range(size):
        made = batches_of(rank, size, dealt=dealt, first=first)
        assert len(made) == len(list(made))


def test_another_epoch_has_other_batches() -> None:
    made = batches_of(dealt=True)
    first = list(made)
    made.sampler.set_epoch(1)
    assert list(made) != first
