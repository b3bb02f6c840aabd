"""What the browser is given: nothing from elsewhere, what is others' as it was taken, with its licence."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from lograft.node.console.app import CONTENT_TYPES, load_assets

ASSETS = Path(__file__).parents[3] / "node" / "console" / "assets"
VENDOR = ASSETS / "vendor"
MANIFEST = json.loads((VENDOR / "MANIFEST.json").read_text())
OURS = sorted(path for path in ASSETS.iterdir() if path.is_file())


def test_every_vendored_file_is_listed_with_version_and_licence_and_is_as_it_was_taken() -> None:
    listed = {name: one for package in MANIFEST for name, one in package["files"].items()}
    licences = {package["licence_file"] for package in MANIFEST}
    assert {path.name for path in VENDOR.iterdir()} == {*listed, *licences, "MANIFEST.json"}
    for name, sha256 in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == sha256, name
    for package in MANIFEST:
        assert package["version"] and package["licence"] in ("MIT", "Apache-2.0")
        assert len((VENDOR / package["licence_file"]).read_text()) > 500


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere_and_no_script_stands_in_the_page(path: Path) -> None:
    text = path.read_text()
    addresses = re.findall(r"https?://[^\s\"'`$)]+", text)
    assert not [address for address in addresses if address != "http://www.w3.org/2000/svg"]
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)", text) and not re.search(r"\son\w+=|style=", text)
    if path.suffix == ".js":
        for way_in in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "srcdoc",
        ):
            assert way_in not in text, f"{way_in} could make markup or code of a record"


def test_everything_is_served_and_nothing_else_is() -> None:
    served = load_assets(ASSETS)
    assert {"index.html", "main.js", "vendor/uplot.js"} <= {*served}
    assert all(Path(name).suffix in CONTENT_TYPES for name in served)
    assert sum(len(body) for body, _, _ in served.values()) < 300_000, "it is to open at once, also over a slow line"
    for path in OURS:
        assert path.name in served


def test_what_a_module_of_ours_imports_is_there() -> None:
    for path in ASSETS.glob("*.js"):
        for source in re.findall(r'from "(\./[^"]+)"', path.read_text()):
            assert (ASSETS / source).is_file(), f"{path.name} imports {source}"


def test_the_package_has_the_assets_in_it() -> None:
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert '"lograft.node.console" = ["assets/*", "assets/vendor/*"]' in project
