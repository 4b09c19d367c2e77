"""Make what the page of examples/browser needs beside its own files.

built/   the networks as ONNX, and pipeline.json: every constant of the way from a CT to findings
vendor/  NiiVue and the report's viewer, out of the package, and onnxruntime-web, out of npm

usage: python examples/browser/build.py [--without-ort]
"""

from __future__ import annotations

import argparse
import gzip
import inspect
import json
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

from p2ch_luna import __version__, geometry, lungs
from p2ch_luna.export.run import export_model
from p2ch_luna.export.schema import Export
from p2ch_luna.inference import anatomy, propose, tiles
from p2ch_luna.inference.classify import BATCH, CROP_IRC
from p2ch_luna.inference.detector import CLASSIFIER
from p2ch_luna.inference.joint import LOGIT_LIMIT
from p2ch_luna.io import checks, opened
from p2ch_luna.models.checkpoint import bundled, load_card
from p2ch_luna.report.threshold import finding_threshold, operating_point

HERE = Path(__file__).parent
OUTPUTS = {"segmentation": "mask_logit", "nodule": "nodule_logit", "malignancy": "malignancy_logit"}
VIEWER = ("page.css", "page.js", "viewer.html", "viewer.js", "volume.js", "NIIVUE-LICENSE.txt")


def main() -> None:
    """Export, write and copy; then fetch what npm has."""
    parser = argparse.ArgumentParser(description="Make what the page needs.")
    parser.add_argument("--without-ort", action="store_true", help="fetch nothing")
    wanted = parser.parse_args()
    print(f"exporting {', '.join(OUTPUTS)} to {HERE / 'built'}", flush=True)
    build(HERE / "built", HERE / "vendor")
    if not wanted.without_ort:
        subprocess.run([HERE.parents[1] / "scripts" / "vendor_ort.sh", HERE / "vendor"], check=True)
    print(f"next: python {HERE / 'serve.py'}")


def build(built: Path, vendor: Path) -> None:
    """All but onnxruntime-web. built, vendor: folders, made if they are not there."""
    built.mkdir(parents=True, exist_ok=True)
    vendor.mkdir(parents=True, exist_ok=True)
    exports = {name: export_model(bundled(name), name, ["onnx"], built) for name in OUTPUTS}
    (built / "pipeline.json").write_text(json.dumps(pipeline(exports), indent=1) + "\n", encoding="utf-8")
    static = files("p2ch_luna.report.html") / "static"
    for name in VIEWER:
        (vendor / name).write_bytes((static / name).read_bytes())
    (vendor / "niivue.umd.js").write_bytes(gzip.decompress((static / "niivue.umd.js.gz").read_bytes()))


def pipeline(exports: dict[str, Export]) -> dict[str, Any]:
    """What the JavaScript takes from the package: constants keep their names there."""
    card = load_card(bundled("nodule"))
    point = operating_point({CLASSIFIER: card}, None)
    return {
        "version": __version__,
        "AIR_HU": geometry.AIR_HU,
        "BATCH": BATCH,
        "checks": _constants(checks) | _constants(opened) | {"PADDING_HU": geometry.PADDING_HU},
        "lungs": _constants(lungs)
        | {
            "SPACING_MM": _default(lungs.prepare, "spacing_mm"),
            "MARGIN_MM": _default(lungs.prepare, "margin_mm"),
            "CUT_CM2": anatomy.CUT_CM2,
        },
        "tiles": _constants(tiles),
        "proposal": _constants(propose)
        | {name.upper(): value for name, value in vars(propose.DEFAULT_PROPOSAL).items()},
        "networks": {name: _network(name, export) for name, export in exports.items()},
        "joint": {
            "LOGIT_LIMIT": LOGIT_LIMIT,
            "calibration": card.calibration and card.calibration.model_dump(mode="json"),
        },
        "threshold": finding_threshold(point),
        "fp_per_scan": point and point.fp_per_scan,
    }


def _network(name: str, export: Export) -> dict[str, Any]:
    shape = load_card(bundled(name)).config.get("data", {}).get("shape_irc", CROP_IRC)
    return {
        "file": export.files[0].files[0],
        "output": OUTPUTS[name],
        "cropIrc": list(shape),
        "sha256": export.weights_sha256,
    }


def _constants(module: object) -> dict[str, float]:
    """The numbers that a module has in capitals."""
    return {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int | float) and not name.startswith("_")
    }


def _default(function: object, name: str) -> float:
    value: float = inspect.signature(function).parameters[name].default  # type: ignore[arg-type]
    return value


if __name__ == "__main__":
    main()
