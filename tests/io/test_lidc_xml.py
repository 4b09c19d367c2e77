from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc_tables import CHARACTERISTICS, LidcTables, load_lidc_tables
from p2ch_luna.io.lidc_xml import read_lidc_xml

LIDC_IDRI_0001 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
TAGS = {name: name for name in CHARACTERISTICS} | {"internal_structure": "internalStructure"}
ROI = (
    "<roi><imageZposition>-12.5</imageZposition><imageSOP_UID>1.2</imageSOP_UID><inclusion>TRUE</inclusion>"
    "<edgeMap><xCoord>5</xCoord><yCoord>6</yCoord></edgeMap>"
    "<edgeMap><xCoord>7</xCoord><yCoord>6</yCoord></edgeMap></roi>"
)
RATED = "<characteristics><subtlety>4</subtlety><malignancy>2</malignancy></characteristics>"
SMALL = (
    "<unblindedReadNodule><noduleID>small</noduleID><roi><imageZposition>-12.5</imageZposition>"
    "<inclusion>TRUE</inclusion><edgeMap><xCoord>1</xCoord><yCoord>2</yCoord></edgeMap></roi>"
    "</unblindedReadNodule>"
)
NO_NODULE = (
    "<nonNodule><nonNoduleID>7</nonNoduleID><imageZposition>-12.5</imageZposition>"
    "<locus><xCoord>1</xCoord><yCoord>2</yCoord></locus></nonNodule>"
)


def nodule(name: str, *parts: str) -> str:
    return f"<unblindedReadNodule><noduleID>{name}</noduleID>{''.join(parts)}</unblindedReadNodule>"


def message(*nodules: str, uid: str = "1.2.3") -> str:
    """As TCIA's, with one reading session a nodule."""
    sessions = "".join(f"<readingSession>{text}</readingSession>" for text in nodules)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<LidcReadMessage xmlns="http://www.nih.gov" uid="1">'
        f"<ResponseHeader><SeriesInstanceUid>{uid}</SeriesInstanceUid></ResponseHeader>{sessions}"
        "</LidcReadMessage>"
    )


def as_xml(tables: LidcTables, uid: str) -> str:
    """A series of the tables as TCIA writes it."""

    def roi(z: float, included: bool, points: list[list[int]]) -> str:
        edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
        return (
            f"<roi>\n<imageZposition>{z} </imageZposition><imageSOP_UID>1.2</imageSOP_UID>"
            f"<inclusion>{str(included).upper()}</inclusion>{edges}</roi>"
        )

    nodules = []
    for read in tables.annotations_of(uid):
        ratings = zip(CHARACTERISTICS, read.ratings, strict=True)
        texts = "".join(f"<{TAGS[name]}>{rating}</{TAGS[name]}>" for name, rating in ratings)
        rois = [
            roi(o.z_mm, o.is_included, o.points_xy.tolist()) for o in tables.outlines_of(read.annotation_id)
        ]
        name = escape(read.reader_nodule)
        nodules.append(nodule(name, f"<characteristics>{texts}</characteristics>", *rois))
    return message(*nodules, SMALL, NO_NODULE, uid=uid)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def to_file(text: str, name: str = "069.xml") -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return to_file


@pytest.fixture
def with_hole() -> str:
    """A series of which a reader cut something out."""
    tables = load_lidc_tables()
    return tables.series_of(int(tables.outline_of[~tables.is_included][0]))


def test_a_series_gives_the_outlines_of_the_tables(write: Callable[..., Path], with_hole: str) -> None:
    tables = load_lidc_tables()
    read = read_lidc_xml(write(as_xml(tables, with_hole)))
    for found, wanted in zip_longest(read.annotations_of(with_hole), tables.annotations_of(with_hole)):
        outlines = read.outlines_of(found.annotation_id), tables.outlines_of(wanted.annotation_id)
        for one, other in zip(*outlines, strict=True):
            assert one[:2] == other[:2]
            assert one.points_xy.tolist() == other.points_xy.tolist()


def test_a_series_gives_the_ratings_of_the_tables(write: Callable[..., Path]) -> None:
    tables = load_lidc_tables()
    read = read_lidc_xml(write(as_xml(tables, LIDC_IDRI_0001))).annotations_of(LIDC_IDRI_0001)
    assert [(a.reader_nodule, a.ratings) for a in read] == [
        (a.reader_nodule, a.ratings) for a in tables.annotations_of(LIDC_IDRI_0001)
    ]


def test_small_nodules_and_what_is_none_are_left_out(write: Callable[..., Path]) -> None:
    read = read_lidc_xml(write(message(SMALL, NO_NODULE, nodule("large", RATED, ROI))))
    assert read.reader_nodule == ("large",)


def test_a_characteristic_that_is_absent_is_not_rated(write: Callable[..., Path]) -> None:
    read = read_lidc_xml(write(message(nodule("a", RATED, ROI))))
    assert read.annotation(1).ratings == (4, *[None] * 7, 2)


def test_an_outline_without_ratings_is_kept(write: Callable[..., Path]) -> None:
    read = read_lidc_xml(write(message(nodule("a", "<characteristics/>", ROI))))
    assert read.annotation(1).ratings == (None,) * 9


def test_a_scan_without_nodules_is_read(write: Callable[..., Path]) -> None:
    read = read_lidc_xml(write(message()))
    assert (read.series_uids, read.annotations_of("1.2.3")) == (["1.2.3"], [])


def test_a_folder_is_read_in_the_order_of_names(write: Callable[..., Path], tmp_path: Path) -> None:
    write(message(nodule("b", ROI), uid="1.2.2"), "157/2.xml")
    write(message(nodule("a", ROI), nodule("c", ROI), uid="1.2.1"), "157/1.xml")
    read = read_lidc_xml(tmp_path)
    assert (read.series_uids, read.reader_nodule) == (["1.2.1", "1.2.2"], ("a", "c", "b"))
    assert read.series_of(3) == "1.2.2"


def test_other_messages_of_a_folder_are_passed_over(write: Callable[..., Path], tmp_path: Path) -> None:
    write('<IdriReadMessage xmlns="http://www.nih.gov/idri"/>', "x-ray.xml")
    write(message())
    assert read_lidc_xml(tmp_path).series_uids == ["1.2.3"]


def test_a_folder_without_a_message_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        LunaError, match=r"no LidcReadMessage in 0 XML file\(s\); expected TCIA's of LIDC-IDRI"
    ):
        read_lidc_xml(tmp_path)


def test_one_series_in_two_files_is_told(write: Callable[..., Path], tmp_path: Path) -> None:
    write(message(), "1.xml")
    write(message(), "2.xml")
    with pytest.raises(LunaError, match=r"2.xml: series 1.2.3 is in .*1.xml too; expected it once"):
        read_lidc_xml(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"no.xml: cannot be read: No such file or directory; expected XML"):
        read_lidc_xml(tmp_path / "no.xml")


def test_a_file_cut_short_is_named(write: Callable[..., Path]) -> None:
    path = write(message(nodule("a", ROI))[:-40])
    with pytest.raises(
        LunaError, match=r"069.xml: no plain XML: .*; expected TCIA's annotations of LIDC-IDRI"
    ):
        read_lidc_xml(path)


def test_entities_are_refused(write: Callable[..., Path]) -> None:
    entities = '<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    path = write(message(nodule("&b;", ROI)).replace("?>\n", f"?>\n{entities}\n"))
    with pytest.raises(LunaError, match=r"069.xml: no plain XML: it declares a document type 'lolz'"):
        read_lidc_xml(path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("<SeriesInstanceUid>1.2.3</SeriesInstanceUid>", "", "ResponseHeader has no SeriesInstanceUid"),
        (
            "<SeriesInstanceUid>1.2.3<",
            "<SeriesInstanceUid> <",
            "SeriesInstanceUid is empty; expected a value",
        ),
        ("<imageZposition>-12.5</imageZposition>", "", "roi has no imageZposition; expected it"),
        (">-12.5<", ">up<", "imageZposition is 'up'; expected a number"),
        (">-12.5<", ">nan<", "imageZposition is 'nan'; expected a number"),
        ("<inclusion>TRUE</inclusion>", "", "roi has no inclusion"),
        (">TRUE<", ">YES<", "inclusion is 'yes'; expected TRUE or FALSE"),
        ("<xCoord>5</xCoord>", "", "edgeMap has no xCoord"),
        (">5</xCoord>", ">5.5</xCoord>", "xCoord is 5.5; expected the number of a pixel"),
        (">5</xCoord>", ">99999</xCoord>", "xCoord is 99999; expected the number of a pixel"),
        ("<noduleID>a</noduleID>", "", "unblindedReadNodule has no noduleID"),
        ("<malignancy>2<", "<malignancy>7<", "malignancy is '7'; expected 1 to 6"),
        ("<malignancy>2<", "<malignancy>high<", "malignancy is 'high'; expected 1 to 6"),
        (ROI, "", "nodule 'a' has no roi; expected its outlines"),
    ],
)
def test_what_is_missing_or_impossible_is_named(
    write: Callable[..., Path], old: str, new: str, told: str
) -> None:
    text = message(nodule("a", RATED, ROI))
    assert old in text
    with pytest.raises(LunaError, match=rf"069\.xml: {told}"):
        read_lidc_xml(write(text.replace(old, new)))


def test_an_outline_without_points_is_told(write: Callable[..., Path]) -> None:
    roi = "<roi><imageZposition>3</imageZposition><inclusion>TRUE</inclusion></roi>"
    with pytest.raises(LunaError, match="a roi at z 3 mm has no edgeMap; expected at least one point"):
        read_lidc_xml(write(message(nodule("a", roi))))
