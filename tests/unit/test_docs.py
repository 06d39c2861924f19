"""The pages for people: what they link to is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import by_kernel
from tests.field import __main__ as field
from tests.scripts import script
from tests.survey import __main__ as survey

PROJECT = Path(__file__).parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("deploy/*.md")])
_LINK = re.compile(r"""(?:\]\(|(?:src|srcset)=")([^)#\s"]+)""")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_what_is_linked_to_is_there(page: Path) -> None:
    links = [each for each in _LINK.findall(page.read_text("utf-8")) if "://" not in each]
    missing = [each for each in links if not (page.parent / each).exists()]
    assert missing == []


def test_the_first_page_leads_to_all_of_docs() -> None:
    linked = set(_LINK.findall((PROJECT / "README.md").read_text("utf-8")))
    pages = {f"docs/{each.name}" for each in PROJECT.glob("docs/*.md")}
    assert pages <= linked


def test_the_pages_of_kernels_are_made_of_what_was_found() -> None:
    """`make field` and `make survey` write them."""
    for each in (field, survey):
        assert each.PAGE.read_text("utf-8") == each.page(by_kernel.kept(each.FOUND))


def test_the_manual_page_and_completions_are_what_the_commands_say() -> None:
    """`make manual` writes them anew."""
    files = script("manual").files()
    assert {path: (PROJECT / "share" / path).read_text() for path in files} == files


def test_the_tables_are_of_the_counters_and_metrics_as_they_are_declared() -> None:
    """`make manual` writes them anew."""
    written = script("counters").written()
    assert {path: path.read_text("utf-8") for path in written} == written


def test_every_issue_form_asks_for_what_the_doctor_says() -> None:
    forms = [each for each in PROJECT.glob(".github/ISSUE_TEMPLATE/*.yml") if each.stem != "config"]
    assert forms
    for form in forms:
        assert "sudo pte-trace doctor --json" in form.read_text()


def test_public_ci_calls_targets_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    workflow = (PROJECT / ".github/workflows/ci.yml").read_text()
    called = re.sub(r"\w+=\$\{\{.*?\}\}", "", " ".join(re.findall(r"run: make (.+)", workflow)))
    assert (
        {"lint", "test-unit", "test-integration", "test-kernel"} <= set(called.split()) <= targets
    )


def alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load((PROJECT / "deploy/prometheus/alerts.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def test_the_runbook_has_every_alert_and_no_other() -> None:
    runbook = (PROJECT / "docs/runbook.md").read_text("utf-8")
    names = [rule["alert"] for rule in alerts()]
    assert re.findall(r"^## (.+)$", runbook, re.MULTILINE) == names


def test_every_alert_leads_to_its_section_of_the_runbook() -> None:
    """Where the package has it; a heading's anchor is its words in small letters."""
    assert "docs/runbook.md" in (PROJECT / "deploy/debian/pte-trace.docs").read_text().split()
    base = "file:///usr/share/doc/pte-trace/runbook.md"
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"{base}#{rule['alert'].lower()}"


def test_pictures_show_what_there_is_to_be_seen_today() -> None:
    """`make pictures` makes them anew."""
    pictures = script("pictures")
    shown = pictures.shown()

    assert json.loads(pictures.SHOWN.read_text()) == shown
    for name in ("top", "top-phone"):
        kept = (pictures.PICTURES / f"{name}.svg").read_text()
        assert pictures.words(kept) == pictures.words(pictures.live(name))
    assert {each.name for each in pictures.PICTURES.glob("*.[ps][nv]g")} == set(shown)


def test_the_dashboard_shown_is_asked_what_it_asks_today_of_what_is_exported_today() -> None:
    """`make pictures` has Prometheus answer anew."""
    pictures = script("pictures")
    kept = json.loads(pictures.DASHBOARD.read_text())
    asked = json.loads(json.dumps(pictures.asked()))

    assert {name: kept[name] for name in asked} == asked
    assert [len(each) for each in kept["answers"]] == [
        len(each["asked"]) for each in asked["panels"]
    ]


def test_each_picture_of_the_first_page_has_one_for_a_phone() -> None:
    wide = re.findall(r'src="(docs/pictures/[^"]+)"', (PROJECT / "README.md").read_text("utf-8"))
    phone = re.findall(r'srcset="([^"]+)"', (PROJECT / "README.md").read_text("utf-8"))

    assert [each.replace(".", "-phone.") for each in wide] == phone
    assert {Path(each).name for each in wide + phone} == set(script("pictures").shown())
