"""Serve the page of examples/browser to this computer alone, with the headers that let it have threads.

usage: python examples/browser/serve.py [--port 8700]
"""

from __future__ import annotations

import argparse
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
NEEDED = ("built/pipeline.json", "vendor/ort.wasm.min.mjs")
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


def policy(page: Path = HERE / "index.html") -> str:
    """The policy of the page, for what a worker of it may do is told by a header alone."""
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page.read_text("utf-8"))
    if found is None:
        raise ValueError(f"{page}: no Content-Security-Policy; wanted one")
    return f"{found[1]}; frame-ancestors 'none'"


class Handler(SimpleHTTPRequestHandler):
    """Files of the folder, isolated from all other pages: browsers give threads to no others."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def end_headers(self) -> None:
        """Add what every answer has."""
        self.send_header("Content-Security-Policy", policy())
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing of what is fetched."""


def server(port: int, folder: Path = HERE) -> ThreadingHTTPServer:
    """On loopback; port 0: one that the system chooses."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the page to this computer.")
    parser.add_argument("--port", type=int, default=8700)
    port = parser.parse_args().port
    if missing := [name for name in NEEDED if not (HERE / name).is_file()]:
        parser.error(f"{', '.join(missing)}: not there; run python examples/browser/build.py first")
    with server(port) as serving:
        print(f"http://127.0.0.1:{serving.server_address[1]}/    Ctrl-C ends it", flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
