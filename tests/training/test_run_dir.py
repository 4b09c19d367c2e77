import pickle
import subprocess
from pathlib import Path

import pytest
import torch

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.training import run_dir

CPU = torch.device("cpu")


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


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    run_dir.save_checkpoint(tmp_path / "last.pt", {"epoch": 3})
    assert run_dir.load_checkpoint(tmp_path / "last.pt", CPU) == {"epoch": 3}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"some text\n",
        b"hello world",
        b"epoch = 3\n",
        pickle.dumps(Path("a"), protocol=2),
        bytes(range(256)),
        b"M",
    ],
    ids=["empty", "text", "words", "toml", "an object", "bytes", "a byte"],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(LunaError, match=r"last.pt: cut short or not a checkpoint: \w"):
        run_dir.load_checkpoint(tmp_path / "last.pt", CPU)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"last.pt: no such file; wanted a checkpoint of `luna train`"):
        run_dir.load_checkpoint(tmp_path / "last.pt", CPU)


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
    with pytest.raises(LunaError, match=r"split.json: .*; wanted the split that the run began with"):
        run_dir.keep_split(tmp_path, {}, resume=True)
