"""Nothing in the package picks a GPU by itself, or loads tensors to where they were saved."""

import re
from pathlib import Path

import pytest

import p2ch_luna

ROOT = Path(p2ch_luna.__file__).parent
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
TO_CUDA = re.compile(r"\.cuda\(")
LOAD = re.compile(r"\btorch\.load\((?P<arguments>[^()]*(?:\([^()]*\)[^()]*)*)\)")


def wrong(source: str) -> list[str]:
    """Calls that ought not to be there."""
    loads = [found.group() for found in LOAD.finditer(source) if "map_location" not in found["arguments"]]
    return [*TO_CUDA.findall(source), *loads]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_moves_nothing_to_cuda_unasked(path: Path) -> None:
    assert wrong((ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source", ["model.cuda()", "x = torch.load(path)", "torch.load(\n    str(path), weights_only=True\n)"]
)
def test_a_forbidden_call_is_seen(source: str) -> None:
    assert len(wrong(source)) == 1


@pytest.mark.parametrize(
    "source", ["torch.cuda.is_available()", "torch.load(str(path), map_location=device)", "model.to(device)"]
)
def test_an_allowed_call_passes(source: str) -> None:
    assert wrong(source) == []
