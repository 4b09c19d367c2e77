"""The page, its files and the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from p2ch_luna.serve.pages import FOLDER, MEDIA_TYPES, static_files


def test_the_page_is_html(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.lower().startswith("<!doctype html>")


@pytest.mark.parametrize("name", sorted(static_files()))
def test_every_file_is_served_with_its_type(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPES[Path(name).suffix])


def test_a_gzipped_file_is_served_as_what_it_holds(client: httpx.Client) -> None:
    answer = client.get("/static/swagger-ui.css")
    assert answer.headers["content-encoding"] == "gzip"
    assert ".swagger-ui" in answer.text


def test_a_file_that_has_not_changed_is_not_sent_again(client: httpx.Client) -> None:
    tag = client.get("/static/style.css").headers["etag"]
    answer = client.get("/static/style.css", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    "name", ["x.js", "..%2fpages.py", "../pages.py", "%2e%2e/pages.py", "%2fetc%2fpasswd", ""]
)
def test_nothing_else_is_served(client: httpx.Client, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_a_file_of_unknown_type_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.exe").touch()
    with pytest.raises(KeyError):
        static_files(tmp_path)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_asks_no_other_server(client: httpx.Client, path: str) -> None:
    assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*', client.get(path).text) == []


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_has_no_script_of_its_own(client: httpx.Client, path: str) -> None:
    page = client.get(path).text
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"\son\w+=|<style|\sstyle=", page) == []


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_what_a_page_names_is_there(client: httpx.Client, path: str) -> None:
    named = re.findall(r'(?:src|href)="/static/([^"]+)"', client.get(path).text)
    assert named
    assert set(named) <= set(static_files(FOLDER))


def test_only_the_documentation_may_style_inline(client: httpx.Client) -> None:
    policies = {path: client.get(path).headers["content-security-policy"] for path in ("/", "/docs")}
    assert ["unsafe-inline" in policies[path] for path in ("/", "/docs")] == [False, True]
    assert "script-src 'self';" in policies["/docs"]
