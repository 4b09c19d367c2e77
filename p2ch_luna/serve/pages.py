"""The web page, its files and the documentation of the API; none of it needs another server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from p2ch_luna.serve.security import DOCS_POLICY

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
METHODS = ["GET", "HEAD"]
_REVALIDATE = "no-cache"  # kept by browsers, and asked for whether it is still the same
_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>luna serve: its API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/static/swagger-ui-bundle.js"></script>
<script src="/static/docs.js"></script>
</body>
</html>
"""


@dataclass(frozen=True)
class StaticFile:
    """A file as it is sent. tag: changes with its content."""

    content: bytes
    headers: dict[str, str]
    tag: str


def static_files(folder: Path = FOLDER) -> dict[str, StaticFile]:
    """All files of a folder by name; those that are gzipped by their name without `.gz`."""
    return {path.name.removesuffix(".gz"): _read(path) for path in sorted(folder.iterdir()) if path.is_file()}


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    media_type = MEDIA_TYPES[Path(path.name.removesuffix(".gz")).suffix]
    headers = {"Content-Type": media_type, "ETag": tag, "Cache-Control": _REVALIDATE}
    if path.suffix == ".gz":
        headers["Content-Encoding"] = "gzip"
    return StaticFile(content, headers, tag)


def pages() -> APIRouter:
    """The routes of the page. What a client asks for is looked up among the files read now: it is no path."""
    router = APIRouter(include_in_schema=False)
    files = static_files()

    @router.api_route("/", methods=METHODS)
    async def page(request: Request) -> Response:
        return _answer(request, files, "index.html")

    @router.api_route("/static/{name}", methods=METHODS)
    async def static(request: Request, name: str) -> Response:
        return _answer(request, files, name)

    @router.api_route("/docs", methods=METHODS)
    async def docs() -> Response:
        return Response(_DOCS, media_type="text/html", headers={"Content-Security-Policy": DOCS_POLICY})

    return router


def _answer(request: Request, files: dict[str, StaticFile], name: str) -> Response:
    file = files.get(name)
    if file is None:
        raise HTTPException(404, "there is no such file")
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers={"ETag": file.tag, "Cache-Control": _REVALIDATE})
    return Response(file.content, headers=file.headers)
