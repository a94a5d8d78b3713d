"""The report: one file that holds everything, tells failures loudly, and copes with whatever is missing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.reporting import build_report
from pipelines.reporting.pictures import embed_pictures
from pipelines.runs import RunFolder

Make = Callable[..., RunFolder]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements, identifiers, links and visible text of a page; fails on elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} closed out of order"

    def handle_data(self, data: str) -> None:
        if self._open[-1:] not in (["style"], ["script"]):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(run: RunFolder) -> Page:
    return Page(build_report(run).read_text())


def test_a_report_needs_no_network_and_fits_a_mail(make: Make) -> None:
    run = make()
    page = read(run)
    assert run.report.stat().st_size < 5_000_000
    addresses = [
        value for _, attributes in page.elements for key, value in attributes.items() if key in {"src", "href"}
    ]
    assert addresses
    assert all(address.startswith(("#", "data:image/")) for address in addresses)
    style = re.findall(r"url\(|@import", run.report.read_text())
    assert style == []
    assert "default-src 'none'" in run.report.read_text()


def test_every_link_leads_somewhere_and_every_picture_has_words(make: Make) -> None:
    page = read(make())
    places = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = {attributes["href"][1:] for attributes in page.all("a")}
    assert links <= places
    assert any(link.startswith("case-") for link in links)
    assert len(page.all("img")) == 5
    assert all(len(picture["alt"]) > 10 for picture in page.all("img"))
    assert all(chart["aria-label"] for chart in page.all("svg"))
    assert all(head.get("scope") in {"col", "row"} for head in page.all("th"))


def test_the_headline_gives_means_with_intervals(make: Make) -> None:
    run = make(failed=0)
    text = " ".join(read(run).text.split())
    summary = {
        tuple(line.split(",")[:2]): line.split(",")[2:5]
        for line in (run.evaluation / "test.summary.csv").read_text().splitlines()[1:]
    }
    for name, shown in (("mean", "Mean of the classes"), ("anterior", "anterior"), ("posterior", "posterior")):
        mean, low, high = (f"{float(value):.3f}" for value in summary[name, "dice"])
        assert f"{shown} {mean} mean" in text or f"{shown} {mean} 95 % interval {low} to {high}" in text
    assert "could not be predicted" not in text


def test_failures_and_undefined_values_are_told_loudly(make: Make) -> None:
    text = " ".join(read(make(failed=3)).text.split())
    assert "3 of 52 cases could not be predicted. They are counted with the worst value" in text
    assert "hippocampus_001: the image is cut off after 12 of 40 slices" in text
    assert "1 × missed." in text
    assert "anterior: Dice, HD95, ASSD, NSD not defined in 1 case (both empty)" in text


def test_worst_cases_come_first(make: Make) -> None:
    run = make(failed=0)
    text = run.report.read_text() if run.report.is_file() else build_report(run).read_text()
    rows = re.findall(r'<tr id="case-(\w+)"', text)
    assert rows[0] == "hippocampus_001"
    assert len(rows) == 52
    standing = re.findall(r"(hippocampus_\d+)</a><span>([^<]+)", text)
    assert "worst" in standing[0][1]


def test_synthetic_data_are_named_in_the_title(make: Make) -> None:
    text = build_report(make(synthetic=True)).read_text()
    assert "(synthetic data)" in text.partition("</title>")[0]
    assert "synthetic data, not patients" in text
    assert "synthetic" not in build_report(make("002")).read_text().partition("</title>")[0]


def test_a_leak_is_found_by_the_report_itself(make: Make) -> None:
    run = make()
    run.cases.write_text("case_id,group,split\na,patient,train\nb,patient,test\n")
    assert "1 groups stand in more than one part" in read(run).text


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        pytest.param("evaluation", "no case has been judged yet", id="not judged"),
        pytest.param("figures", "pictures of judged cases", id="no pictures"),
        pytest.param("history.csv", "the training history", id="no history"),
        pytest.param("config.yaml", "the resolved configuration", id="no configuration"),
        pytest.param("environment.json", "the environment", id="no environment"),
        pytest.param("cases.csv", "the table of cases", id="no cases"),
        pytest.param("splits.json", "how the cases were divided", id="no splits"),
        pytest.param("status.json", "status.json", id="no status"),
    ],
)
def test_what_is_missing_is_said(make: Make, missing: str, told: str) -> None:
    run = make()
    if missing == "evaluation":
        run.update_status(part="", state="interrupted")
    path = run.root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = read(run).text
    assert "This report is incomplete" in text
    assert told in text


def test_an_empty_folder_gives_a_report_that_says_so(make: Make) -> None:
    run = make()
    shutil.rmtree(run.root)
    run.root.mkdir()
    assert "This report is incomplete" in read(run).text


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(("splits.json", "{"), id="cut JSON"),
        pytest.param(("status.json", "[1]"), id="JSON of another kind"),
        pytest.param(("history.csv", "epoch,train/loss\n1\n2,nan\n3,0.5,7\n"), id="ragged history"),
        pytest.param(("history.csv", "epoch,train/loss\n"), id="history without rows"),
        pytest.param(("evaluation/test.cases.csv", "case_id,class,metric,value\n"), id="no rows"),
        pytest.param(("evaluation/test.cases.csv", "\x00\xff"), id="no table"),
        pytest.param(("evaluation/test.summary.csv", "class,metric,mean\nanterior,dice,nan\n"), id="only nan"),
        pytest.param(("config.yaml", "{ a: [ "), id="broken YAML"),
        pytest.param(("figures/index.json", '[{"name": "../../status"}, 3, {"name": ""}]'), id="hostile figures"),
    ],
)
def test_damaged_files_do_not_stop_a_report(make: Make, damage: tuple[str, str]) -> None:
    run = make()
    (run.root / damage[0]).write_text(damage[1])
    assert "</html>" in build_report(run).read_text()


def test_text_from_files_is_never_markup(make: Make) -> None:
    run = make()
    evil = '"><script>alert(1)</script>'
    table = run.evaluation / "test.cases.csv"
    table.write_text(
        table.read_text().replace("hippocampus_004", evil.replace('"', '""').join('""')).replace("anterior", "<b>x")
    )
    run.update_status(name=evil)
    text = build_report(run).read_text()
    assert "<script>alert" not in text
    assert "<b>x" not in text


def test_no_absolute_path_and_no_group_is_in_it(make: Make) -> None:
    run = make()
    text = build_report(run).read_text()
    assert "/srv/archive" not in text
    assert "…/msd_hippocampus" in text
    assert str(run.root.parent.parent) not in text
    assert "patient 7" not in text


def test_settings_are_listed_where_a_path_in_braces_is_not_told(make: Make, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PULVINAR_DATA", str(tmp_path / "data"))
    run = make()
    run.config.write_text(f"name: x\nseed: 5\ndata: {{root: {tmp_path / 'data'}/set, pattern: a}}\n")
    text = build_report(run).read_text()
    assert "All 4 settings" in text
    assert "${env:PULVINAR_DATA}/set" in text
    assert str(tmp_path / "data") not in text


@pytest.mark.parametrize("cases", [1, 2, 1200])
def test_any_number_of_cases_fits(make: Make, cases: int) -> None:
    run = make(cases=cases, failed=0)
    read(run)
    assert run.report.stat().st_size < 5_000_000


def test_many_large_pictures_are_made_to_fit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 900, 3), dtype=np.uint8)
    files = [tmp_path / f"large-{index}.png" for index in range(4)]
    for file in files:
        Image.fromarray(noise).save(file, compress_level=1)
    (tmp_path / "none.png").write_text("no picture")
    embedded = embed_pictures([*files, tmp_path / "none.png"], budget=400_000)
    assert set(embedded) == set(files)
    assert sum(map(len, embedded.values())) < 400_000 * 4 / 3 + 200
    assert embed_pictures(files[:1], budget=4_000_000)[files[0]].startswith("data:image/png")


def test_a_run_says_with_which_metric_its_report_begins(make: Make) -> None:
    run = make(failed=0)
    told = {"nsd": {"better": "higher", "label": "Surface Dice", "headline": True}}
    (run.evaluation / "metrics.json").write_text(json.dumps(told))
    text = " ".join(read(run).text.split())
    assert "Surface Dice (higher is better) on the test part" in text


def test_the_mean_over_a_single_class_is_not_told_beside_it(make: Make) -> None:
    run = make(failed=0)
    table = run.evaluation / "test.summary.csv"
    table.write_text(
        "".join(line for line in table.read_text().splitlines(keepends=True) if not line.startswith("posterior,"))
    )
    cards = [attributes for _, attributes in read(run).elements if attributes.get("class") == "value"]
    assert len(cards) == 1


def test_figures_of_the_whole_set_are_not_called_cases(make: Make) -> None:
    run = make(failed=0)
    assert "Worst and best cases" in build_report(run).read_text()
    index = run.figures / "index.json"
    whole = [{**entry, "case_id": ""} for entry in json.loads(index.read_text())]
    index.write_text(json.dumps(whole))
    text = build_report(run).read_text()
    assert "Worst and best cases" not in text
    assert "<h2>Figures</h2>" in text
