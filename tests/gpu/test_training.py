"""Training on a GPU."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from p2ch_luna.datasets.augment import Augmentation, apply, draw
from p2ch_luna.models.precision import Precision
from p2ch_luna.training import board
from p2ch_luna.training.bench_step import Training, random_patches, small_segmentation
from p2ch_luna.training.loop import GRADIENT_NORM, to_device, train_step
from support.devices import CPU, CUDA, there


def in_precision(training: Training, precision: Precision) -> Training:
    return replace(training, rules=replace(training.rules, precision=precision))


def figures_of(training: Training, batch: object) -> dict[str, float]:
    figures = train_step(
        training.state.model, batch, training.objective, training.state, training.rules, training.world
    )
    return {name: float(value) for name, value in figures.items()}


def totals_of(training: Training, steps: int) -> list[float]:
    """The loss of each step."""
    heard: list[float] = []
    training.epoch(steps, lambda figures: heard.append(sum(figures.values()) - figures[GRADIENT_NORM]))
    return heard


def weights_of(training: Training) -> dict[str, Tensor]:
    return {name: value.cpu().clone() for name, value in training.state.model.state_dict().items()}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


def test_the_first_step_has_the_losses_and_the_gradient_of_the_cpu(device: torch.device) -> None:
    here, reference = (in_precision(small_segmentation(where), "fp32") for where in (device, CPU))
    found, wanted = (figures_of(training, training.ready()) for training in (here, reference))
    assert found == pytest.approx(wanted, rel=0.01)  # a GPU may convolve float32 in TF32
    assert set(found) == {"focal", "dice", GRADIENT_NORM}


@pytest.mark.parametrize(
    ("name", "precision"),
    [("cpu", "bf16"), pytest.param("cuda", "bf16", marks=pytest.mark.gpu)],
)
def test_bf16_trains(name: str, precision: Precision) -> None:
    losses = totals_of(in_precision(small_segmentation(there(name)), precision), 40)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.gpu
def test_fp16_trains_with_its_losses_scaled(cuda: torch.device) -> None:
    training = in_precision(small_segmentation(cuda), "fp16")
    training.state.scaler = GradScaler("cuda")
    losses = totals_of(training, 40)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert training.state.scaler.get_scale() > 1


def test_a_checkpoint_goes_on_on_the_cpu_and_back(device: torch.device, tmp_path: Path) -> None:
    begun = small_segmentation(device)
    begun.epoch(2)
    begun.state.save(tmp_path / "there.pt")
    on_cpu = small_segmentation(CPU)
    on_cpu.state.load(tmp_path / "there.pt", CPU)
    assert_same(weights_of(on_cpu), weights_of(begun))
    figures_of(on_cpu, on_cpu.ready())
    on_cpu.state.save(tmp_path / "back.pt")
    again = small_segmentation(device)
    again.state.load(tmp_path / "back.pt", device)
    assert_same(weights_of(again), weights_of(on_cpu))
    figures_of(again, again.ready())
    assert again.state.step == 4


def test_the_optimizer_of_a_checkpoint_is_loaded_to_the_device(device: torch.device, tmp_path: Path) -> None:
    begun = small_segmentation(CPU)
    begun.epoch(1)
    begun.state.save(tmp_path / "last.pt")
    resumed = small_segmentation(device)
    resumed.state.load(tmp_path / "last.pt", device)
    moments = [value["exp_avg"] for value in resumed.state.optimizer.state.values()]
    assert {moment.device.type for moment in moments} == {device.type}


@pytest.mark.parametrize("seed", range(4))
def test_augmentation_moves_and_filters_as_on_the_cpu(device: torch.device, seed: int) -> None:
    hu, labels = random_patches(4, 32)
    how = Augmentation(noise_hu=0.0, resample=1.0, elastic_mm=2.0)  # noise is another on each device
    drawn = draw(4, how, torch.Generator().manual_seed(seed))
    found, found_labels = apply(hu.to(device), labels.to(device), drawn)
    wanted, wanted_labels = apply(hu, labels, drawn)
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-3, atol=2.0)  # HU
    assert found_labels is not None
    assert wanted_labels is not None
    assert (found_labels.cpu() == wanted_labels).float().mean() > 0.999  # but for ties between two voxels


def test_a_batch_arrives_as_it_was(device: torch.device) -> None:
    batch = small_segmentation(device).batch
    moved = to_device(batch, device)
    assert moved.hu.device.type == device.type
    assert (moved.hu.cpu() == batch.hu).all()


@pytest.mark.gpu
def test_a_pinned_batch_is_copied_while_the_gpu_still_works(cuda: torch.device) -> None:
    batch = small_segmentation(cuda).batch
    assert batch.hu.is_pinned()
    torch.cuda.synchronize(cuda)
    torch.cuda._sleep(2_000_000_000)  # cycles: about a second
    to_device(batch, cuda)
    assert not torch.cuda.current_stream(cuda).query()
    torch.cuda.synchronize(cuda)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")  # which would be an error here
def test_a_step_never_waits_for_the_gpu(cuda: torch.device) -> None:
    training = small_segmentation(cuda)
    training.epoch(2)  # what is made at the first use may wait
    try:
        torch.cuda.set_sync_debug_mode("error")
        training.step(training.augmented(to_device(training.batch, cuda), 3))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_most_memory_that_was_needed_is_told(device: torch.device) -> None:
    held = torch.ones(16_000_000, device=device)  # 64 MB
    assert board.memory_mb(device) >= held.nbytes / 1e6


@pytest.mark.filterwarnings("default")  # the compiler has some of its own
@pytest.mark.parametrize("name", [pytest.param("cpu", marks=pytest.mark.slow), CUDA])
def test_a_compiled_network_has_the_losses_of_the_same_uncompiled(name: str) -> None:
    where = there(name)
    plain, training = (in_precision(small_segmentation(where), "fp32") for _ in range(2))
    compiled: Callable[[Tensor], Tensor] = torch.compile(training.state.model)
    ready = training.ready()
    figures = train_step(
        compiled,  # type: ignore[arg-type]
        ready,
        training.objective,
        training.state,
        training.rules,
        training.world,
    )
    found = {name: float(value) for name, value in figures.items()}
    assert found == pytest.approx(figures_of(plain, plain.ready()), rel=0.02)
