"""The page of an ambiguous data set: what it says, what it shows, and that nothing in it can do harm."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headwater.ambiguity.pictures import array_pictures
from headwater.errors import RequestError
from headwater.heads.ambiguity.evidence import Difference, Evidence, Kind
from headwater.heads.ambiguity.meaning import Meaning
from headwater.heads.ambiguity.mix_rate import MixRate
from headwater.heads.ambiguity.problem import Problem
from headwater.heads.ambiguity.questions import Opinion, Question
from headwater.heads.ambiguity.resolve import Exchange, Resolution
from headwater.heads.ambiguity.scan import Cluster, FoundReading, Scan
from headwater.pixels import visible_range
from headwater.report.ambiguity import words
from headwater.report.ambiguity.data import AmbiguityData
from headwater.report.ambiguity.gather import gather
from headwater.report.ambiguity.page import render, write_page
from headwater.report.ambiguity.pictures import difference_picture, image_picture, strongest
from tests.report.test_browser import BROWSER, look

IDENTITY = "ab" * 32


def problem() -> Problem:
    random = np.random.default_rng(0)
    parts = [random.random((size, 1, 6, 12)).astype(np.float32) for size in (20, 40, 20)]
    return Problem(parts[0], np.arange(20) % 2, parts[1], parts[2], (0, 7))


def found() -> Scan:
    random = np.random.default_rng(1)
    image = random.random((1, 6, 12)).astype(np.float32)
    kinds = (
        Kind("0", 0, 10, image, (0, 2)),
        Kind("7", 1, 10, image, (1, 3)),
        Kind("unseen 0 / 7", None, 14, image, (4, 6)),
        Kind("unseen 7 / 0", None, 12, image, (5,)),
    )
    evidence = Evidence(
        kinds,
        (Difference("I", 0, 1, image - 0.5), Difference("II", 0, 1, 0.5 - image)),
        random.random((50, 2)),
        np.arange(50) % 5 - 1,
        np.arange(50),
    )
    codes = np.array([0, 1, 0, 1])
    readings = (
        FoundReading("I", 0.99, codes, np.array([0, 1, 0])),
        FoundReading("II", 0.97, 1 - codes, np.array([1, 0, 1])),
    )
    clusters = (
        Cluster(0, 20, 20, 10, (10, 10), False, 1, (1, 2)),
        Cluster(1, 0, 20, 10, (0, 0), True, 4, (4, 5)),
    )
    return Scan(
        score=0.998,
        novelty=0.998,
        contradiction=0.98,
        mix_rate=MixRate(0.31, 0.27, 0.34),
        target_rate=MixRate(0.5, 0.4, 0.6),
        readings=readings,
        clusters=clusters,
        cluster_of=np.zeros(80, dtype=np.int64),
        unseen_unlabeled=np.array([0, 1, 2, 3]),
        unseen_target=np.array([4, 5, 6]),
        counted_unseen=(18, 8),
        evidence=evidence,
        told_by="opposing heads",
        sentences=("About 31% of the unlabeled rows.",),
    )


def resolution(settled: bool = True) -> Resolution:
    picture = np.full((6, 12), 90, dtype=np.uint8)
    exchanges = tuple(
        Exchange(
            Question(item, number, picture, (Opinion("A", 0, 0.6), Opinion("B", 1, 0.4)), 12, 5),
            item % 2,
        )
        for number, item in enumerate((4, 5, 13), 1)
    )
    shares = np.full((20, 2), 0.5)
    return Resolution(
        probabilities=shares,
        labels=np.zeros(20, dtype=np.int64),
        settled=settled,
        sentences=("Settled by three answers.",),
        exchanges=exchanges,
        beliefs={"A": 0.03, "B": 0.96},
        unexplained=0.01,
        mix_rate=0.31,
        expected_accuracy=0.972,
        interval=(0.94, 0.99),
        before=shares,
        seconds={"readings": 1.0},
        readings={"A": meaning(0), "B": meaning(1)},
    )


def meaning(first: int) -> Meaning:
    """Of a reading that says 0 and 1 by turns, as I or II do of rows 4 to 6, which the scan calls unseen."""
    codes = (np.arange(20) + first) % 2
    image = np.random.default_rng(first).random((1, 6, 12)).astype(np.float32) - 0.5
    about = "the left half of the images" if first else ""
    return Meaning(codes, np.arange(12), 0, 1, image, about)


def page_data(**changes: object) -> AmbiguityData:
    data = gather(
        problem(),
        name="pairs",
        identity=IDENTITY,
        scan=found(),
        resolution=resolution(),
        budget=5,
        advice=(True, "hand it in: 97 % expected is above the 80 %"),
        accuracies=(0.985, 0.752),
        notes=("one note",),
    )
    return replace(data, **changes)  # type: ignore[arg-type]


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", body))).replace("\u202f", " ")


def test_the_page_says_what_was_noticed_asked_and_settled() -> None:
    text = text_of(render(page_data()))
    for said in (
        "3 answers settled what the labels of pairs mean.",
        "98.5 % of the target rows are classed correctly",
        "75.2 % right",
        "About 31 % of the unlabeled rows and 50 % of the target rows",
        "Reading I and reading II fit held-out labeled rows (99.0 % and 97.0 % right)",
        "Question 3 target row 13",
        "reading B says 7 by the left half of the images 40 %",
        "Speaks for 12 target rows.",
        "Hand it in: 97 % expected",
        "labeled 7",
        "unseen 0 / 7",
        "27 % to 34 %",
        "one note",
    ):
        assert said in text, said


def test_every_unlabeled_and_target_row_is_counted_in_the_key_once() -> None:
    text = text_of(render(page_data()))
    assert "unseen 0 / 7 14 rows, 23 % of unlabeled and target rows; never with a label" in text
    assert "the rest 34 rows, 57 % of unlabeled and target rows; nothing found tells them from" in text
    scan = found()
    mixed = replace(scan.evidence.kinds[3], name="unseen", is_mixed=True, rows=55)
    evidence = replace(
        scan.evidence,
        kinds=(*scan.evidence.kinds[:2], mixed),
        place_kinds=np.arange(50) % 4 - 1,
    )
    data = gather(problem(), name="pairs", identity=IDENTITY, scan=replace(scan, evidence=evidence))
    text = text_of(render(data))
    assert "unseen 55 rows, 92 % of unlabeled and target rows" in text
    assert "the rest 5 rows, 8 % of unlabeled and target rows" in text
    assert "are unlike any labeled row." in text  # of how many kinds is not known
    assert "Unseen kinds are named by" not in text


def test_no_two_of_twelve_classes_look_alike_and_clusters_name_a_few_of_them() -> None:
    given = problem()
    many = replace(given, classes=tuple(range(12)), labels=np.arange(20) % 12)
    scan = found()
    kinds = tuple(Kind(str(code), code, 2, None, ()) for code in range(12))
    places = np.random.default_rng(0).random((24, 2))
    evidence = replace(scan.evidence, kinds=kinds, differences=(), places=places)
    evidence = replace(evidence, place_kinds=np.arange(24) % 12, place_of=np.arange(24))
    counts = (0, 3, 9, 0, 0, 4, 0, 2, 0, 0, 1, 1)
    clusters = (replace(scan.clusters[0], classes=counts), replace(scan.clusters[1], classes=(0,) * 12))
    scan = replace(scan, evidence=evidence, clusters=clusters, readings=())
    page = render(gather(many, name="twelve", identity=IDENTITY, scan=scan))
    drawn = re.findall(r'<path class="([^"]*)" d="M[^"]*h0"/>', page[page.index('class="key"') :])[:12]
    assert len(set(drawn)) == 12
    table = text_of(page[page.index("<table") :])
    assert "0 9 of 2, 4 of 5, 3 of 1, 4 of others 20 10" in table
    assert "1 unseen none 20 10" in table


def test_what_is_believed_before_an_answer_sums_up() -> None:
    ended = resolution()
    opinions = (*(Opinion(name, 0, 0.1) for name in "ABCDEF"), Opinion("G", 1, 0.08), Opinion("H", 1, 0.07))
    question = replace(ended.exchanges[0].question, opinions=opinions)
    data = gather(
        problem(), name="pairs", identity=IDENTITY, resolution=ended, exchanges=[Exchange(question, 0)]
    )
    text = text_of(render(data))
    assert "reading F says 0 10 % 2 more 15 % another is meant 25 %" in text
    assert "another is meant" not in text_of(render(page_data()))


def test_where_nothing_was_asked_nothing_is_called_settled() -> None:
    text = text_of(render(page_data(asked=())))
    assert "In the end" in text
    assert "what was settled" not in text


def test_target_rows_that_stand_in_for_unlabeled_ones_are_not_called_so() -> None:
    given = problem()
    stood_in = replace(given, unlabeled=given.target)
    text = text_of(render(gather(stood_in, name="pairs", identity=IDENTITY, scan=found())))
    assert "20 labeled; none unlabeled, 20 to class" in text
    assert "About 50 % of the target rows, the ones" in text
    assert "50 % of target rows, 40 % to 60 %" in text
    assert "of the unlabeled" not in text
    assert "Mix rate, unlabeled" not in text


def test_columns_are_said_to_be_counted_from_0_once() -> None:
    ended = resolution()
    about = {name: replace(each, about="column 3 of the rows") for name, each in ended.readings.items()}
    data = gather(
        problem(), name="pairs", identity=IDENTITY, scan=found(), resolution=replace(ended, readings=about)
    )
    assert text_of(render(data)).count("counted from 0") == 1
    assert "counted from 0" not in text_of(render(page_data()))


def test_opinions_that_the_answer_bears_out_are_told_from_others() -> None:
    page = render(page_data())
    # The answers are the classes 0, 7 and 7: A is right once, B twice.
    assert len(re.findall(r'<li class="held">', page)) == 3
    assert len(re.findall(r'<li class="refuted">', page)) == 3
    first = page[page.index("Question 1") : page.index("Question 2")]
    assert re.search(r'class="held"><span>(<img[^>]*>)?reading A says', first)


def test_readings_that_questions_were_about_are_shown_by_what_they_go_by() -> None:
    data = page_data()
    assert data.outcome is not None
    best, other = data.outcome.readings
    assert (best.name, best.about, best.scanned) == ("B", "the left half of the images", "II")
    assert (other.name, other.about, other.scanned) == ("A", "", "I")
    assert best.goes_by is not None
    assert [(label, len(pictures)) for label, pictures in best.calls] == [("0", 4), ("7", 4)]
    # Rows that B calls 0, drawn evenly from those that A calls otherwise.
    rows = problem().target
    ends = visible_range(rows)
    expected = [image_picture(rows[row], ends, "called 0 by reading B") for row in (1, 3, 7, 11)]
    assert [each.uri for each in best.calls[0][1]] == [each.uri for each in expected]
    page = render(data)
    assert "believed to 96 %; goes by the left half of the images; reading II of the scan" in text_of(page)
    third = page[page.index("Question 3") : page.index("What was noticed")]
    assert third.count('class="px sign') == 2  # beside each letter
    assert best.goes_by.uri in third
    assert "by the left half of the images" in third


def test_readings_of_which_nothing_is_known_take_no_room() -> None:
    ended = resolution()
    nothing = {
        name: replace(each, difference=None, about="", rows=each.rows[:0])
        for name, each in ended.readings.items()
    }
    for found_readings in (nothing, {}):
        data = gather(
            problem(), name="pairs", identity=IDENTITY, resolution=replace(ended, readings=found_readings)
        )
        assert "What these readings go by" not in render(data)


def test_a_scan_alone_asks_for_no_answers() -> None:
    data = gather(problem(), name="pairs", identity=IDENTITY, scan=found())
    text = text_of(render(data))
    assert "The labels of pairs do not say which feature is meant." in text
    assert "What was asked" not in text
    assert "How it ended" not in text


def test_what_is_not_ambiguous_is_not_called_so() -> None:
    plain = replace(found(), score=0.3, novelty=0.3, contradiction=0.0, readings=())
    data = gather(problem(), name="pairs", identity=IDENTITY, scan=plain)
    assert "Nothing makes the labels of pairs ambiguous." in text_of(render(data))
    shifted = replace(plain, score=0.2, novelty=0.999)
    data = gather(problem(), name="pairs", identity=IDENTITY, scan=shifted)
    assert "its labels say what is meant" in words.headline(data)
    assert "by noise or light" in text_of(render(data))


def test_what_is_not_settled_is_a_warning() -> None:
    data = gather(
        problem(),
        name="sums",
        identity=IDENTITY,
        scan=found(),
        resolution=resolution(settled=False),
        advice=(False, "do not hand it in: 75 % expected is below the 80 %"),
    )
    text = text_of(render(data))
    assert "3 answers did not settle what the labels of sums mean." in text
    assert "Not settled." in text
    assert "Advice against it." in text
    assert "97.2 % of the target rows are expected" in text


def test_rows_that_are_no_images_need_no_pictures() -> None:
    random = np.random.default_rng(3)
    parts = [random.standard_normal((size, 4)).astype(np.float32) for size in (20, 40, 20)]
    vectors = Problem(parts[0], np.arange(20) % 2, parts[1], parts[2], (0, 7))
    scan = found()
    kinds = tuple(replace(kind, mean=None) for kind in scan.evidence.kinds)
    scan = replace(scan, evidence=replace(scan.evidence, kinds=kinds, differences=()))
    ended = resolution()
    exchanges = [Exchange(replace(each.question, picture=None), each.answer) for each in ended.exchanges]
    data = gather(
        vectors, name="vectors", identity=IDENTITY, scan=scan, resolution=ended, exchanges=exchanges
    )
    page = render(data)
    assert "<img" not in page
    assert "A row without a picture." in page


def test_every_dot_of_the_map_is_drawn_once() -> None:
    page = render(page_data())
    inner = page[page.index('preserveAspectRatio="none"') :]
    paths = re.findall(r'<path class="([^"]*)" d="((?:M[\d.]+ [\d.]+h0)+)"/>', inner)
    assert sum(path.count("M") for _, path in paths[:5]) == 50
    assert [kind for kind, _ in paths[:5]] == ["plain", "k0", "k1", "u0 unseen", "u1 unseen"]


def test_names_cannot_put_anything_into_the_page() -> None:
    evil = '"><script>alert(1)</script><img src=http://x>'
    data = replace(page_data(), name=evil, classes=(evil, "7"), notes=(evil,))
    page = render(data)
    assert "<script" not in page
    assert "<img src=http" not in page
    assert not re.findall(r"""<[a-z][^>]*(?:src|href)\s*=\s*["']?(?!data:)[a-z]+:""", page)
    assert " style=" not in page


def test_a_page_is_written_over_its_own_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "new" / "page.html"
    assert write_page(page_data(), place) == place
    write_page(page_data(name="again"), place)
    assert "again" in place.read_text("utf-8")
    with pytest.raises(RequestError, match=r"another data set; choose another name with --report$"):
        write_page(page_data(identity="cd" * 32), place)
    place.write_text("mine", "utf-8")
    with pytest.raises(RequestError, match="no headwater report"):
        write_page(page_data(), place)
    assert place.read_text("utf-8") == "mine"


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_values_are_drawn_between_their_black_and_white() -> None:
    image = np.array([[[-1.0, 0.0], [0.5, 2.0]]], dtype=np.float32)
    assert pixels(image_picture(image, (0.0, 1.0), "").uri).tolist() == [[0, 0], [128, 255]]
    colours = pixels(image_picture(np.repeat(image, 3, axis=0), (0.0, 1.0), "").uri)
    assert colours.shape == (2, 2, 3)


def test_rows_are_drawn_as_whoever_is_asked_sees_them() -> None:
    random = np.random.default_rng(2)
    sums = random.normal(1, 0.7, (3, 20, 1, 6, 12)).astype(np.float32)
    dimmed = Problem(0.2 * sums[0], np.arange(20) % 2, sums[1], sums[2], (0, 7))
    noticed = gather(dimmed, name="sums", identity=IDENTITY, scan=found()).noticed
    assert noticed is not None
    (shown, *_) = noticed.kinds[2].typical  # target row 4
    np.testing.assert_array_equal(pixels(shown.uri), array_pictures(dimmed.target)(4))


def test_differences_are_orange_above_blue_below_and_pale_at_nothing() -> None:
    image = np.array([[[-2.0, 0.0, 2.0]]], dtype=np.float32)
    assert strongest([image, image / 4]) == pytest.approx(2.0)
    less, none, more = pixels(difference_picture(image, 2.0, "").uri)[0].astype(int)
    assert less[2] > less[0] + 100
    assert more[0] > more[2] + 100
    assert none.min() > 230
    faint = pixels(difference_picture(image / 4, 2.0, "").uri)[0].astype(int)
    assert faint.min() > less.min()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_phone_and_a_desk(tmp_path: Path, width: int) -> None:
    page = render(page_data(name="a_name_without_an_end_" * 12))
    seen = look(tmp_path, page, width)
    assert (seen["width"], seen["needed"], seen["bare"]) == (width, width, 0)
    assert seen["pictures"] == page.count("<img")
    assert seen["small"] == 0
    assert seen["background"] != "rgba(0, 0, 0, 0)"
