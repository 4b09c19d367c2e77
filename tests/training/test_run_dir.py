import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.training import run_dir


def commit_all(folder: Path) -> None:
    """Make `folder` a git repository of one commit."""
    git = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
    ]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "a"]):
        subprocess.run([*git, *command], check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of this project, as far as one can tell from outside."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p2ch-luna"\n')
    commit_all(tmp_path)
    return tmp_path


def test_a_checkout_has_a_commit(checkout: Path) -> None:
    head = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    full = subprocess.run(head, capture_output=True, text=True, check=True).stdout
    assert full.startswith(run_dir.commit_of(checkout) or "none")


def test_a_changed_checkout_is_dirty(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('[project]\nname = "p2ch-luna"\nversion = "2"\n')
    assert str(run_dir.commit_of(checkout)).endswith("-dirty")


def test_a_repository_further_up_is_not_ours(checkout: Path) -> None:
    installed = checkout / "lib" / "site-packages"
    installed.mkdir(parents=True)
    assert run_dir.commit_of(installed) is None


def test_a_checkout_of_another_project_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    commit_all(tmp_path)
    assert run_dir.commit_of(tmp_path) is None


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert run_dir.commit_of(checkout) is None


def test_an_installed_package_tells_its_version_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_dir, "CHECKOUT", tmp_path)
    assert run_dir.software() == f"p2ch-luna {__version__}, torch {torch.__version__}"


def test_a_resumed_run_needs_the_split_it_began_with(tmp_path: Path) -> None:
    split = {"train": ["a", "b"], "validation": ["c"]}
    run_dir.keep_split(tmp_path, split, resume=False)
    run_dir.keep_split(tmp_path, {"train": ["b", "a"], "validation": ["c"]}, resume=True)
    with pytest.raises(LunaError, match=r"split.json: train: b is gone \(1 differ\); wanted the data"):
        run_dir.keep_split(tmp_path, {**split, "train": ["a"]}, resume=True)
    with pytest.raises(LunaError, match=r"split.json: validation: d is new \(1 differ\)"):
        run_dir.keep_split(tmp_path, {**split, "validation": ["c", "d"]}, resume=True)


def test_a_run_without_its_split_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"split.json: .*; wanted a file that `luna train` writes"):
        run_dir.keep_split(tmp_path, {}, resume=True)


# what a run says of itself


def begun(folder: Path) -> Path:
    run_dir.begin(folder, 'task = "segmentation"\n', "cuda:0", 8)
    return folder


def test_a_run_that_has_begun_says_what_it_runs_with(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_dir, "CHECKOUT", checkout)
    monkeypatch.setattr(sys, "argv", ["luna", "train", "a.toml"])
    about = run_dir.load_about(begun(tmp_path / "run"))
    assert list(about) == ["software", "commit", "command", "started", "device", "processes", "status"]
    assert about["commit"] == run_dir.commit_of(checkout)
    assert (about["command"], about["device"], about["processes"]) == (
        ["luna", "train", "a.toml"],
        "cuda:0",
        8,
    )
    assert about["status"] == "running"


def test_a_run_holds_its_config(tmp_path: Path) -> None:
    assert (begun(tmp_path) / "config.toml").read_text(encoding="utf-8") == 'task = "segmentation"\n'


def test_a_folder_with_a_config_is_a_run(tmp_path: Path) -> None:
    assert not run_dir.is_run(tmp_path)
    assert run_dir.is_run(begun(tmp_path))


def test_a_status_changes_nothing_else(tmp_path: Path) -> None:
    before = run_dir.load_about(begun(tmp_path))
    run_dir.set_status(tmp_path, run_dir.FINISHED)
    assert run_dir.load_about(tmp_path) == {**before, "status": "finished"}


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"run.json: No such file or directory; wanted a file that `luna"):
        run_dir.load_about(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "run.json: damaged: "), ("[1]", "run.json: holds a list; wanted a dict")],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(LunaError, match=message):
        run_dir.load_about(tmp_path)


def test_a_run_without_an_epoch_has_no_history(tmp_path: Path) -> None:
    assert run_dir.load_history(tmp_path) == []


def test_what_is_no_number_is_null_in_the_history(tmp_path: Path) -> None:
    metrics = {"dice": 0.5, "auc": math.nan, "loss": math.inf}
    run_dir.save_history(tmp_path, [{"epoch": 1, "step": 2, "seconds": 3.0, "metrics": metrics}])
    wanted = {"dice": 0.5, "auc": None, "loss": None}
    assert run_dir.load_history(tmp_path) == [{"epoch": 1, "step": 2, "seconds": 3.0, "metrics": wanted}]


def test_a_run_is_read_without_torch(tmp_path: Path) -> None:
    run_dir.save_history(begun(tmp_path), [])
    code = (
        "import sys; from pathlib import Path; from p2ch_luna.training import run_dir; "
        "run_dir.load_about(Path(sys.argv[1])); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


# a new folder


def test_a_second_run_of_the_same_second_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = [run_dir.new_run_dir(tmp_path / "runs", "nodule") for _ in range(3)]
    assert len({folder.name for folder in folders}) == 3
    assert all(folder.is_dir() and folder.name.startswith("nodule-") for folder in folders)


def test_a_file_in_the_place_of_the_runs_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("", encoding="utf-8")
    with pytest.raises(LunaError, match=r"runs.*wanted"):
        run_dir.new_run_dir(tmp_path / "runs", "nodule")


def test_the_split_is_kept(tmp_path: Path) -> None:
    run_dir.keep_split(tmp_path, {"train": ["a"]}, resume=False)
    assert json.loads((tmp_path / "split.json").read_text(encoding="utf-8")) == {"train": ["a"]}


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_dir, "WAIT_FOR_LOADERS_S", 0.0)
    with (
        run_dir.claimed(tmp_path),
        pytest.raises(LunaError, match="another process is training this run"),
        run_dir.claimed(tmp_path),
    ):
        pytest.fail("claimed twice")


def test_a_claim_ends_with_its_block(tmp_path: Path) -> None:
    with run_dir.claimed(tmp_path):
        assert run_dir.is_claimed(tmp_path)
    assert not run_dir.is_claimed(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    for name in (".0a1b-last.pt", ".0a1b-model.safetensors", "last.pt", ".keep"):
        (tmp_path / name).touch()
    run_dir.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".keep", "last.pt"]
