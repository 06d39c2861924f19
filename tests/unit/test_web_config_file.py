"""No change of the web configuration is lost, whenever it comes."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from pte_trace.exporter import web_config
from pte_trace.exporter.web_config import WebConfig
from pte_trace.exporter.web_config_file import WebConfigFile

ONE = "http_server_config: {headers: {X-Frame-Options: a}}"
OTHER = ONE.replace(": a}", ": b}")


def shown(file: WebConfigFile) -> str:
    return file.current.headers["X-Frame-Options"]


def test_a_change_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "web.yml"
    path.write_text(ONE)
    read = web_config.load

    def read_slowly(path: Path) -> WebConfig:
        config = read(path)
        path.write_text(OTHER)
        return config

    monkeypatch.setattr(web_config, "load", read_slowly)
    file = WebConfigFile(path)
    monkeypatch.setattr(web_config, "load", read)
    assert shown(file) == "a"
    file.look()
    assert shown(file) == "b"


def test_a_change_that_shows_in_nothing_but_its_text(tmp_path: Path) -> None:
    """As large, and within the step in which a file's times move."""
    path = tmp_path / "web.yml"
    path.write_text(ONE)
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    file = WebConfigFile(path)
    with path.open("r+") as opened:
        opened.write(OTHER)
    os.utime(path, ns=(now, now))
    file.look()
    assert shown(file) == "b"


def test_changes_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(ONE)
    file = WebConfigFile(path)
    for number in range(150):
        text = (ONE, OTHER)[number % 2]
        after = random.uniform(0, 0.002)
        writer = threading.Timer(after, path.write_text, (text,))
        writer.start()
        file.look()
        writer.join()
        file.look()
        assert shown(file) == "ab"[number % 2]


def test_it_is_said_once_and_read_no_more_once_it_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "web.yml"
    path.write_text(ONE)
    file = WebConfigFile(path)
    path.write_text(OTHER)
    said = [file.look() for _ in range(3)]
    assert said == ["The web configuration was read again.", None, None]
    path.write_text("nonsense")
    said = [file.look() for _ in range(3)]
    assert said[0] is not None
    assert "from before stays in force" in said[0]
    assert said[1:] == [None, None]
    assert shown(file) == "b"
    path.write_text(ONE)
    assert file.look() == "The web configuration was read again."
    time.sleep(0.2)
    file.look()
    monkeypatch.setattr(web_config, "load", None)
    assert file.look() is None
    assert shown(file) == "a"
