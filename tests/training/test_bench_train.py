"""What `luna bench train` measures with, and that it measures all it promises."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from p2ch_luna.config import load_config
from p2ch_luna.training import bench_step
from p2ch_luna.training.bench_step import (
    RULES,
    SMALL_PATCHES,
    SMALL_WIDTHS,
    Sizes,
    classifier,
    random_patches,
    seconds_in_turns,
    segmentation,
    small_segmentation,
)
from p2ch_luna.training.bench_train import STEPS_PER_EPOCH, measure

CONFIGS = Path(__file__).parents[2] / "configs"
CPU = torch.device("cpu")


@pytest.mark.parametrize(("suffix", "device"), [("", "cpu"), ("-gpu", "cuda")])
def test_what_is_measured_is_of_the_configs_for_the_device(suffix: str, device: str) -> None:
    sizes = Sizes.on(torch.device(device))
    segmentation, nodule = (
        load_config(CONFIGS / f"{task}{suffix}.toml") for task in ("segmentation", "nodule")
    )
    for config, (samples, side) in ((segmentation, sizes.patches), (nodule, sizes.crops)):
        assert (config.loop.batch_size, *config.data.shape_irc) == (samples, side, side, side)
    assert tuple(segmentation.model.widths) == sizes.unet_widths
    assert tuple(nodule.model.widths) == sizes.classifier_widths
    assert (RULES.clip_norm, RULES.ema) == (segmentation.optim.clip_norm, segmentation.optim.ema)
    assert segmentation.loop.steps_per_epoch == STEPS_PER_EPOCH
    assert segmentation.validation.samples == sizes.validation_samples


def test_the_small_network_is_that_of_the_smoke_config() -> None:
    config = load_config(CONFIGS / "smoke.toml")
    assert tuple(config.model.widths) == SMALL_WIDTHS
    assert tuple(config.data.shape_irc) == (SMALL_PATCHES[1],) * 3


def test_every_patch_has_a_ball_where_its_labels_say() -> None:
    hu, labels = random_patches(4, 32)
    for sample, of_sample in zip(hu, labels, strict=True):
        assert 0.9 < (sample[of_sample > 0] > -400).float().mean() <= 1
        assert (sample[of_sample == 0] < -400).all()


def test_the_plain_network_is_the_same_in_contiguous_memory() -> None:
    ours, plain = segmentation(CPU), segmentation(CPU, is_plain=True)
    of_plain = dict(plain.state.model.named_parameters())
    for name, parameter in ours.state.model.named_parameters():
        assert torch.equal(parameter, of_plain[name])
    assert all(parameter.is_contiguous() for parameter in of_plain.values())
    assert plain.rules.precision == "fp32"


def test_bare_steps_change_the_weights_as_those_of_the_loop_do() -> None:
    """Without clipping, and on the same batch, they are the same steps."""
    loop, bare = small_segmentation(CPU), small_segmentation(CPU)
    ready = loop.ready()
    object.__setattr__(loop, "rules", bench_step.Rules(clip_norm=1e9, ema=0.999))
    loop.step(ready)
    bare.bare(ready, 1)
    for ours, other in zip(loop.state.model.parameters(), bare.state.model.parameters(), strict=True):
        torch.testing.assert_close(ours, other)


def test_steps_from_a_number_on_have_the_draws_of_these_steps() -> None:
    training = small_segmentation(CPU)
    drawn = [training.augmented(training.batch, step).hu for step in (7, 7, 8)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_the_first_turn_is_not_counted() -> None:
    done: list[str] = []
    works = {"a": lambda: done.append("a"), "b": lambda: done.append("b")}
    seconds = seconds_in_turns(works, 2, CPU)
    assert "".join(done) == "ababab"
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 2, "b": 2}


def test_a_classifier_trains_on_its_crops() -> None:
    training = classifier(CPU)
    before = [parameter.clone() for parameter in training.state.model.parameters()]
    training.step(training.ready())
    assert any(not torch.equal(a, b) for a, b in zip(before, training.state.model.parameters(), strict=True))


LEAK = """
import sys
from pathlib import Path
import torch
from p2ch_luna.training import bench_train

held = []
bench_train.board.LiveCurves.add = lambda *_: held.append(torch.ones(500_000))  # 2 MB
print(bench_train._growth_mb("cpu", Path(sys.argv[1]), 50))
"""


def test_memory_that_each_step_keeps_is_seen_to_grow(tmp_path: Path) -> None:
    """From steps 6 to 10 to steps 46 to 50 by 80 MB; apart, as this process has free memory to fill."""
    done = subprocess.run(
        [sys.executable, "-c", LEAK, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert 60 < float(done.stdout) < 120


@pytest.mark.slow
def test_every_figure_is_measured(tmp_path: Path) -> None:
    stages: list[str] = []
    figures = list(measure(CPU, tmp_path, stages.append, steps=4, memory_steps=100))
    found = {figure.what: figure for figure in figures}
    assert found["a training step on 4×64³, plain float32"].value > found["a training step on 4×64³"].value
    assert 0 < found["… … augmentation"].value < 50
    assert 0 < found["… … average of the weights"].value < 20
    assert 0 < found["TensorBoard, an epoch"].value < 60
    assert 0 < found["checkpoint and model, an epoch"].value < 60
    assert found["a training step of the classifier on 16×48³"].value > 0
    assert found["growth of its own memory over 100 steps"].bound == 10
    assert len([figure for figure in figures if figure.bound is not None]) == 4
    assert len(stages) == 5
