"""Exported networks: files that answer as the network does, or none."""

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.errors import LunaError
from p2ch_luna.export import formats
from p2ch_luna.export.formats import FORMATS, Format
from p2ch_luna.export.run import export_model, sidecar
from p2ch_luna.export.schema import Export, FormatName
from p2ch_luna.inference.unreported import import_unreported
from p2ch_luna.models.build import build_model
from p2ch_luna.models.checkpoint import ModelCard, bundled, load_model, save_model

openvino, onnxruntime = map(import_unreported, ("openvino", "onnxruntime"))

QUICK: tuple[FormatName, ...] = ("onnx", "openvino", "torchscript")
NETWORKS = {
    "unet": ("segmentation_unet", {"widths": [8, 16]}),
    "judge": ("nodule_classifier", {"widths": [8, 16], "diameter_head": True, "outline": True}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network whose answers vary, as a file with its card."""
    builder, arguments = NETWORKS[request.param]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build_model(builder, arguments)
        for name, value in model.state_dict().items():
            if "running" in name or "head" in name:
                value.copy_(torch.rand_like(value) + 0.5)
    card = ModelCard(
        builder=builder, arguments=arguments, config={}, data=[], split={}, metrics={}, software="a test"
    )
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.safetensors"
    save_model(path, model, card)
    return path


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Export]:
    folder = tmp_path_factory.mktemp("exported")
    return folder, export_model(weights, weights.stem, QUICK, folder)


def test_each_format_answers_as_torch(exported: tuple[Path, Export]) -> None:
    _, export = exported
    assert tuple(one.format for one in export.files) == QUICK
    assert max(one.largest_difference for one in export.files) < 1e-3


@pytest.mark.parametrize("name", QUICK)
def test_a_file_answers_any_batch_and_size(
    weights: Path, exported: tuple[Path, Export], name: FormatName
) -> None:
    check_sizes(weights, *exported, name)


@pytest.mark.slow
def test_a_torch_export_answers_any_batch_and_size(weights: Path, tmp_path: Path) -> None:
    export = export_model(weights, "net", ["torch-export"], tmp_path)
    check_sizes(weights, tmp_path, export, "torch-export")


def check_sizes(weights: Path, folder: Path, export: Export, name: FormatName) -> None:
    """The file answers as the network, from the smallest size that it takes on, odd and even ones."""
    (one,) = (one for one in export.files if one.format == name)
    model, _ = load_model(weights)
    loaded = FORMATS[name].load(folder / one.files[0], len(export.outputs) == 1)
    least, multiple = one.smallest_side, export.side_multiple
    for shape in [(1, 1, least, least, least), (5, 1, least, least + multiple, least + 4 * multiple)]:
        hu = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 300 - 500
        with torch.inference_mode():
            wanted, found = _first(model(hu)), _first(loaded(hu))
        torch.testing.assert_close(found.sigmoid(), wanted.sigmoid(), atol=1e-3, rtol=0)


def _first(answers: Tensor | tuple[Tensor, ...]) -> Tensor:
    return answers if isinstance(answers, Tensor) else answers[0]


def test_the_sidecar_says_what_was_returned(exported: tuple[Path, Export]) -> None:
    folder, export = exported
    assert Export.model_validate_json((folder / sidecar(export.name)).read_bytes()) == export


def test_the_hashes_are_of_the_files(exported: tuple[Path, Export]) -> None:
    folder, export = exported
    for one in export.files:
        found = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in one.files]
        assert tuple(found) == one.sha256


def test_nothing_else_is_written_but_the_card(weights: Path, exported: tuple[Path, Export]) -> None:
    folder, export = exported
    named = {name for one in export.files for name in one.files}
    assert {path.name for path in folder.iterdir()} == {*named, export.card, sidecar(export.name)}
    assert (folder / export.card).read_text(encoding="utf-8") == weights.with_suffix(".json").read_text(
        encoding="utf-8"
    )


def test_onnx_has_the_names_and_axes_that_are_said(exported: tuple[Path, Export]) -> None:
    folder, export = exported
    session = onnxruntime.InferenceSession(folder / f"{export.name}.onnx")
    for said, there in zip([export.input, *export.outputs], _both(session), strict=True):
        assert (said.name, list(said.shape[:1])) == (there.name, there.shape[:1])
    assert session.get_inputs()[0].shape == list(export.input.shape)


def _both(session: Any) -> list[Any]:
    return [*session.get_inputs(), *session.get_outputs()]


def test_openvino_has_the_names_that_are_said(exported: tuple[Path, Export]) -> None:
    folder, export = exported
    model = openvino.Core().read_model(folder / f"{export.name}.xml")
    assert [node.get_any_name() for node in model.inputs] == [export.input.name]
    assert [node.get_any_name() for node in model.outputs] == [output.name for output in export.outputs]


def test_the_window_is_that_of_the_network(exported: tuple[Path, Export]) -> None:
    assert exported[1].window_hu == (-1000.0, 400.0)


def test_another_export_of_the_name_leaves_nothing_of_the_first(weights: Path, tmp_path: Path) -> None:
    export_model(weights, "net", ["onnx"], tmp_path)
    (tmp_path / "other.onnx").write_bytes(b"of somebody else")
    export_model(weights, "net", ["torchscript"], tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"net.ts.pt", "net.json", "net.export.json", "other.onnx"}


def test_a_file_that_answers_otherwise_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off(nn.Module):
        def forward(self, hu: Tensor) -> tuple[Tensor, ...]:
            answers = load_model(weights)[0](hu)
            return tuple(x + 0.1 for x in ([answers] if isinstance(answers, Tensor) else answers))

    wrong: Format = FORMATS["onnx"]._replace(load=lambda *_: Off())
    monkeypatch.setitem(FORMATS, "onnx", wrong)  # type: ignore[arg-type]
    with pytest.raises(
        LunaError, match=r"out/net.onnx: probabilities differ from torch's by .*at most 0.001 and 0.01"
    ):
        export_model(weights, "net", ["torchscript", "onnx"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shifted_logit_of_the_bundled_classifier_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = load_model(bundled("nodule"))

    def off(hu: Tensor) -> tuple[Tensor, ...]:
        answers = model(hu)
        return (answers.nodule_logit + 2, *(one for one in answers[1:] if one is not None))

    wrong: Format = FORMATS["torchscript"]._replace(load=lambda *_: off)
    monkeypatch.setitem(FORMATS, "torchscript", wrong)  # type: ignore[arg-type]
    with pytest.raises(LunaError, match=r"logits by 2;"):
        export_model(bundled("nodule"), "nodule", ["torchscript"], tmp_path / "out")


def test_a_torch_without_the_private_setting_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "SETTING", "no_such_setting")
    with pytest.raises(LunaError, match=r"torch-export: torch .* has no setting no_such_setting; wanted"):
        export_model(weights, "net", ["torch-export"], tmp_path / "out")


def test_a_card_of_another_model_is_not_overwritten(weights: Path, tmp_path: Path) -> None:
    other = bundled("malignancy").with_suffix(".json").read_bytes()
    (tmp_path / "net.json").write_bytes(other)
    with pytest.raises(LunaError, match=r"net.json: is no card of this model or of an earlier export;"):
        export_model(weights, "net", ["torchscript"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["net.json"]
    assert (tmp_path / "net.json").read_bytes() == other


def test_a_file_that_is_no_card_is_not_overwritten(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text("[]", encoding="utf-8")
    with pytest.raises(LunaError, match=r"net.json: is no card"):
        export_model(weights, "net", ["torchscript"], tmp_path)


def test_an_export_beside_its_own_weights_leaves_their_card(weights: Path, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(weights.with_suffix(suffix), tmp_path / f"net{suffix}")
    export_model(tmp_path / "net.safetensors", "net", ["torchscript"], tmp_path)
    load_model(tmp_path / "net.safetensors")


def test_an_export_takes_the_place_of_one_of_another_model(weights: Path, tmp_path: Path) -> None:
    export_model(bundled("malignancy"), "net", ["torchscript"], tmp_path)
    made = export_model(weights, "net", ["torchscript"], tmp_path)
    assert load_model(weights)[1].weights_sha256 == made.weights_sha256


def test_the_extra_is_named_where_a_package_is_missing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(LunaError, match=r'format \'openvino\'.*pip install "p2ch-luna\[export\]"'):
        export_model(weights, "net", ["openvino"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segmentation", "nodule", "malignancy"])
def test_the_bundled_networks_answer_as_torch_in_every_format(name: str, tmp_path: Path) -> None:
    export = export_model(bundled(name), name, list(FORMATS), tmp_path)
    assert export.side_multiple == 16
    assert max(one.largest_difference for one in export.files) < 1e-3
