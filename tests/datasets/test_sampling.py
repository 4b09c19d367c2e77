from collections import Counter

import pytest

from p2ch_luna.datasets.sampling import BalancedSampler, Pick, exact_counts


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
