"""The page, the figures and the files of an evaluation."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from p2ch_luna import __version__
from p2ch_luna.report.evaluation.figures import froc_figure, sizes_figure
from p2ch_luna.report.evaluation.files import write_evaluation
from p2ch_luna.report.evaluation.pages import page
from p2ch_luna.report.evaluation.run import Answer
from p2ch_luna.report.evaluation.schema import SCHEMA_VERSION, Evaluation

PNG = b"\x89PNG"
MISSED, FALSE = ("1.2.1", (0.0, 0.0, 0.0)), ("1.2.1", (-70.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def written(both: Answer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_evaluation(folder, both.evaluation, both.results, {})
    return folder


def test_all_files_are_written(written: Path) -> None:
    names = ["evaluation.json", "froc.csv", "froc.png", "index.html", "sizes.png"]
    assert sorted(path.name for path in written.iterdir()) == names


def test_the_json_says_its_version_and_comes_back(written: Path, both: Answer) -> None:
    text = (written / "evaluation.json").read_text(encoding="utf-8")
    assert Evaluation.model_validate_json(text) == both.evaluation
    content = json.loads(text)
    assert (content["schema_version"], content["software"]) == (SCHEMA_VERSION, f"p2ch-luna {__version__}")


def test_the_curve_of_one_submission_has_three_columns(alone: Answer, tmp_path: Path) -> None:
    write_evaluation(tmp_path, alone.evaluation, alone.results, {})
    rows = list(csv.reader((tmp_path / "froc.csv").read_text(encoding="utf-8").splitlines()))
    # by falling score: 0.9 hits, 0.8, 0.4 and 0.3 are false, 0.2 hits
    assert rows == [
        ["fp_per_scan", "sensitivity", "threshold"],
        ["0.0", "0.0", "inf"],
        ["0.0", "0.25", "0.9"],
        ["0.5", "0.25", "0.8"],
        ["1.0", "0.25", "0.4"],
        ["1.5", "0.25", "0.3"],
        ["1.5", "0.5", "0.2"],
    ]


def test_curves_of_several_name_their_submission(written: Path) -> None:
    rows = list(csv.DictReader((written / "froc.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["submission"] for row in rows} == {"a.csv", "b.csv"}


def test_figures_are_pictures(written: Path) -> None:
    for name in ("froc.png", "sizes.png"):
        with Image.open(written / name) as image:
            assert min(image.size) > 400


def test_a_curve_and_a_band_for_each_submission(both: Answer) -> None:
    ax = froc_figure(both.results).axes[0]
    legend = ax.get_legend()
    assert legend is not None
    # a: 1/4 up to 1 FP a scan, 1/2 from 2 on; b lacks the last hit
    labels = [text.get_text() for text in legend.get_texts()]
    assert [label.split(" [")[0] for label in labels] == ["a.csv: CPM 0.357", "b.csv: CPM 0.250"]
    assert len(ax.collections) == 2


def test_a_long_name_is_cut_at_its_beginning(alone: Answer) -> None:
    named = [type(r)("x" * 60 + "/end.csv", r.marks, r.outcome, r.curve, r.band) for r in alone.results]
    legend = froc_figure(named).axes[0].get_legend()
    assert legend is not None
    assert re.match(r"…x{31}/end\.csv: CPM", legend.get_texts()[0].get_text())


def test_a_panel_each_for_size_texture_and_malignancy(both: Answer) -> None:
    titles = [ax.get_title() for ax in sizes_figure(both.evaluation.all_scores).axes]
    assert titles == ["diameter", "texture", "malignancy"]


def test_no_panel_where_nobody_rated(alone: Answer) -> None:
    plain = alone.evaluation.model_copy(update={"textures": (), "malignancies": ()})
    assert len(sizes_figure([plain]).axes) == 1


def test_the_page_needs_nothing_else(both: Answer) -> None:
    text = page(both.evaluation, {"FROC": PNG}, {MISSED: PNG})
    assert "<script" not in text
    assert "http" not in text
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]+)"', text))


def test_without_pictures_there_are_tables_only(alone: Answer) -> None:
    text = page(alone.evaluation, {}, {})
    assert "<img" not in text
    assert "no picture" not in text
    assert '<tr><td class="uid">1.2.1</td><td>0.0</td><td>0.0</td><td>0.0</td><td>5.0</td>' in text


def test_pictures_bear_uid_place_and_diameter_or_score(alone: Answer) -> None:
    text = page(alone.evaluation, {}, {MISSED: PNG, FALSE: PNG})
    captions = re.findall(r"<img [^>]+><figcaption>([^/]+)</figcaption>", text)
    assert captions == [
        "5.0 mm<br>at 0.0, 0.0, 0.0<br>1.2.1",
        "1. score 0.800<br>at -70.0, 0.0, 0.0<br>1.2.1",
    ]


def test_a_place_without_a_picture_beside_others_is_shown(alone: Answer) -> None:
    text = page(alone.evaluation, {}, {MISSED: PNG})
    assert "no picture</div><figcaption>2.0 mm<br>at 0.0, 90.0, 0.0<br>1.2.2" in text


def test_names_are_no_html(alone: Answer) -> None:
    odd = alone.evaluation.model_copy(update={"name": "<b>&.csv", "warnings": ("<i>",)})
    text = page(odd, {}, {})
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;.csv" in text
    assert '<p class="warning">&lt;i&gt;</p>' in text


def test_differences_are_on_the_page(both: Answer) -> None:
    text = page(both.evaluation, {}, {})
    assert "<th>minus a.csv</th>" in text
    assert "<tr><td>b.csv</td><td>-0.107</td>" in text  # a quarter less at 3 of 7 rates


def test_files_are_named_with_their_sums_and_without_their_folders(alone: Answer, files: Path) -> None:
    text = page(alone.evaluation, {}, {})
    assert str(files) not in text
    assert all(i.sha256 in text for i in alone.evaluation.inputs)
