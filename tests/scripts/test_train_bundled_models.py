"""The recipe of the bundled models: what it does again after a stop, and that all of it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from p2ch_luna.models.checkpoint import WEIGHTS, load_card

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "train_bundled_models.sh"
LUNA = r"""#!/usr/bin/env bash
# Notes its arguments and leaves what the real one would; stops in a training whose folder is named $STOP, and
# where $STOP is asked for. Networks that it searches with must be there.
echo "$*" >>calls.txt
if [ -n "${STOP:-}" ] && [[ "$*" == *$STOP\ --markdown ]]; then exit 1; fi
for option in "$@"; do
  if [[ ${before:-} =~ ^--(segmentation|classifier)$ ]] && [ ! -f "$option" ]; then exit 2; fi
  before=$option
done
if [ "$1" = train ]; then
  if [ "$2" = --resume ]; then run=$3; else run="${*: -1}/task-1"; fi
  mkdir -p "$run"
  touch "$run/last.pt"
  if [ -n "${STOP:-}" ] && [[ $run == */$STOP/* ]]; then
    echo '"status": "interrupted"' >"$run/run.json"
    exit 130
  fi
  echo "$run" | tee "$run/model.safetensors" >"$run/model.json"
  echo '"status": "finished"' >"$run/run.json"
fi
echo "$1 says this"
"""

Recipe = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Calls the script where there is nothing but a `luna` that does nothing."""
    (tmp_path / "configs").mkdir()
    for name in ("segmentation", "segmentation-second", "nodule", "malignancy"):
        (tmp_path / "configs" / f"{name}.toml").write_text("seed = 0   # any\n", encoding="utf-8")
    (tmp_path / "p2ch_luna" / "weights").mkdir(parents=True)
    (tmp_path / "luna").write_text(LUNA, encoding="utf-8")
    (tmp_path / "luna").chmod(0o755)

    def call(*arguments: str, stop: str = "") -> subprocess.CompletedProcess[str]:
        (tmp_path / "calls.txt").write_text("")
        environment = {**os.environ, "LUNA": str(tmp_path / "luna"), "STOP": stop}
        return subprocess.run(
            ["bash", SCRIPT, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], Sequence[str]]:
    """What the last call asked of `luna`: the commands with their second word."""

    def read() -> Sequence[str]:
        lines = (tmp_path / "calls.txt").read_text(encoding="utf-8").splitlines()
        return [" ".join(line.split()[:2]) for line in lines]

    return read


def test_a_done_recipe_does_nothing_again(recipe: Recipe, calls: Callable[[], Sequence[str]]) -> None:
    first = recipe("--smoke")
    assert first.returncode == 0, first.stderr
    assert [call for call in calls() if call.startswith("train")] == [
        "train configs/segmentation.toml",
        "train configs/segmentation-second.toml",
        "train configs/nodule.toml",
        *["train configs/malignancy.toml"] * 6,  # one to use, and five that judge whom they do not know
    ]
    second = recipe("--smoke")
    assert (second.returncode, calls()) == (0, [])
    assert second.stdout == first.stdout


def test_a_stopped_training_is_resumed(
    recipe: Recipe, calls: Callable[[], Sequence[str]], tmp_path: Path
) -> None:
    stopped = recipe(stop="classifier")
    assert stopped.returncode == 130
    assert "stopped in step classifier" in stopped.stderr
    assert recipe().returncode == 0
    assert calls()[0] == "train --resume"
    assert "/classifier/task-1" in (tmp_path / "calls.txt").read_text(encoding="utf-8").splitlines()[0]


def test_a_step_whose_folder_is_gone_is_done_again_with_what_builds_on_it(
    recipe: Recipe, calls: Callable[[], Sequence[str]], tmp_path: Path
) -> None:
    recipe("--smoke")
    shutil.rmtree(tmp_path / "runs" / "bundled-smoke" / "classifier")
    recipe("--smoke")
    assert [call.split()[0] for call in calls()] == [
        "train",
        "calibrate",
        "benchmark",
        "robustness",
        *["card"] * 6,  # figures for each, and pages
    ]
    assert calls()[0] == "train configs/nodule.toml"


def test_a_changed_config_is_noticed_and_a_changed_comment_is_not(
    recipe: Recipe, calls: Callable[[], Sequence[str]], tmp_path: Path
) -> None:
    recipe("--smoke")
    config = tmp_path / "configs" / "malignancy.toml"
    config.write_text("# Of old.\n\nseed = 0  # any seed\n", encoding="utf-8")
    recipe("--smoke")
    assert calls() == []
    config.write_text("seed = 1\n", encoding="utf-8")
    done = recipe("--smoke")
    assert "malignancy: configs/malignancy.toml has changed; done anew" in done.stderr
    assert [call.split()[0] for call in calls()] == [*["train"] * 6, "malignancy", *["card"] * 6]


def test_a_training_of_a_config_that_has_changed_is_not_resumed(
    recipe: Recipe, calls: Callable[[], Sequence[str]], tmp_path: Path
) -> None:
    recipe("--smoke", stop="classifier")
    (tmp_path / "configs" / "nodule.toml").write_text("seed = 1\n", encoding="utf-8")
    recipe("--smoke")
    assert calls()[0] == "train configs/nodule.toml"


def test_networks_that_judge_malignancy_do_not_wait_for_the_one_to_use(
    recipe: Recipe, calls: Callable[[], Sequence[str]], tmp_path: Path
) -> None:
    recipe("--smoke")
    shutil.rmtree(tmp_path / "runs" / "bundled-smoke" / "malignancy")
    recipe("--smoke")
    assert [call.split()[0] for call in calls()] == ["train", *["card"] * 6]


def test_the_classifier_learns_from_both_minings(recipe: Recipe, tmp_path: Path) -> None:
    recipe()
    lines = (tmp_path / "calls.txt").read_text(encoding="utf-8").splitlines()
    training = next(line for line in lines if line.startswith("train configs/nodule.toml"))
    work = "runs/bundled"
    assert f'data.candidates=["{work}/mine-first/candidates.csv", "{work}/mine/candidates.csv"]' in training
    assert f"validation.segmentation={work}/segmentation-second/task-1" in training


def test_a_folder_may_have_blanks(recipe: Recipe, tmp_path: Path) -> None:
    done = recipe("--data", "my data", "my runs")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my runs" / "bundled" / "install" / "done").is_file()


def test_outdated_work_is_not_gone_on_with(
    recipe: Recipe, calls: Callable[[], Sequence[str]], tmp_path: Path
) -> None:
    """The classifier had begun with candidates that are no more."""
    recipe("--smoke", stop="classifier")
    shutil.rmtree(tmp_path / "runs" / "bundled-smoke" / "mine")
    recipe("--smoke")
    assert calls()[0].startswith("mine")
    assert calls()[1] == "train configs/nodule.toml"


def test_the_networks_are_put_in_their_place(recipe: Recipe, tmp_path: Path) -> None:
    assert recipe().returncode == 0
    names = ("malignancy", "nodule", "segmentation")
    of_run = {
        name: (tmp_path / "p2ch_luna" / "weights" / f"{name}.safetensors").read_text() for name in names
    }
    assert [of_run[name].split("/")[2] for name in names] == [
        "malignancy",
        "classifier",
        "segmentation-second",
    ]
    pages = sorted((tmp_path / "docs" / "cards").iterdir())
    assert [page.name for page in pages] == [f"{name}.md" for name in names]
    assert [page.read_text() for page in pages] == [f"# The bundled {name} network\n" for name in names]
    installed = {f"{name}.{kind}" for name in names for kind in ("safetensors", "json")}
    assert {path.name for path in (tmp_path / "p2ch_luna" / "weights").iterdir()} == installed


def test_stopped_while_they_are_put_there_all_are_as_they_were(
    recipe: Recipe, calls: Callable[[], Sequence[str]], tmp_path: Path
) -> None:
    """The page of the last one cannot be written."""
    old = tmp_path / "p2ch_luna" / "weights" / "segmentation.safetensors"
    old.write_text("old", encoding="utf-8")
    stopped = recipe(stop="malignancy.safetensors")
    assert (stopped.returncode != 0, "stopped in step install" in stopped.stderr) == (True, True)
    assert old.read_text(encoding="utf-8") == "old"
    assert not list(tmp_path.glob("p2ch_luna/weights/*.json")) + list(tmp_path.glob("docs/cards/*.md"))
    assert recipe().returncode == 0
    assert old.read_text(encoding="utf-8") != "old"
    assert [call.split()[0] for call in calls()] == ["card"] * 3
    old.write_text("of another's making", encoding="utf-8")
    assert recipe().returncode == 0
    assert (calls(), old.read_text(encoding="utf-8")) == ([], "of another's making")


def test_smoke_puts_nothing_there(recipe: Recipe, tmp_path: Path) -> None:
    assert recipe("--smoke").returncode == 0
    assert not any((tmp_path / "p2ch_luna" / "weights").iterdir())
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize(
    ("arguments", "told"), [(["--fast"], "no such option"), (["a", "b"], "b: wanted one folder")]
)
def test_wrong_arguments_are_told(recipe: Recipe, arguments: Sequence[str], told: str) -> None:
    wrong = recipe(*arguments)
    assert (wrong.returncode, told in wrong.stderr) == (2, True)


@pytest.mark.slow
def test_all_of_it_runs_and_leaves_the_weights_alone(shared_data: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in WEIGHTS.iterdir() if path.is_file()}
    environment = {
        **os.environ, "LUNA": str(Path(sys.executable).with_name("luna")), "OMP_NUM_THREADS": "1"
    }  # fmt: skip
    beside = ROOT.parent / "shared" / "data"
    data = [] if shared_data.resolve() == beside.resolve() else ["--data", str(shared_data)]
    done = subprocess.run(
        ["bash", SCRIPT, "--smoke", *data, tmp_path],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    cards = tmp_path / "bundled-smoke" / "cards"
    for name in ("segmentation", "nodule", "malignancy"):
        assert load_card(cards / f"{name}.safetensors").figures
    assert load_card(cards / "nodule.safetensors").calibration is not None
    assert {path: path.read_bytes() for path in before} == before
