#!/usr/bin/env python3
"""Lists what the module and the command are made of, each as a CycloneDX document in FOLDER:

    tools/sbom.py FOLDER [TARGET_OF_THE_COMMAND]

The lists are cargo-cyclonedx's, with two corrections. It takes the features of a crate together over
the whole workspace, tests included: a crate that `cargo tree` does not find in the package alone is left
out. And it names this machine's folders. Times are SOURCE_DATE_EPOCH, or 0: the same commit makes the
same bytes.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = REPOSITORY / "target/tools/bin/cargo-cyclonedx"
CARGO = os.environ.get("CARGO", "cargo")
# It writes a file of this name beside every Cargo.toml.
NAME = "sbom"


def main(folder, target="x86_64-unknown-linux-musl"):
    # In a folder whose name does not depend on the machine: package ids hold it, and leave out the
    # package's name where the two are the same.
    with tempfile.TemporaryDirectory() as temporary:
        sources = pathlib.Path(temporary).resolve() / "sources"
        copy(sources)
        for package, where, triple, file in [
            ("wecom-callback-filter", ".", "wasm32-wasip1", "wecom_callback_filter.cdx.json"),
            ("wecom-callbacks", "cli", target, "wecom-callbacks.cdx.json"),
        ]:
            bom = described(sources, where, triple)
            bom = only(bom, crates(sources, package, triple))
            bom = without(bom, sources)
            pathlib.Path(folder, file).write_text(json.dumps(bom, indent=2, ensure_ascii=False) + "\n")


def copy(sources):
    """What cargo needs to read the workspace: everything but what was built and what git keeps."""

    def left_out(folder, names):
        return [name for name in names if name in ("target", ".git", "dist", "node_modules", "corpus")]

    shutil.copytree(REPOSITORY, sources, ignore=left_out, symlinks=True)


def described(sources, where, triple):
    command = [PROGRAM, "cyclonedx", "--quiet", "--format", "json", "--spec-version", "1.5", "--target", triple]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or "0"}
    subprocess.run([*command, "--override-filename", NAME], cwd=sources, env=environment, check=True)
    return json.loads((sources / where / f"{NAME}.json").read_text())


def crates(sources, package, triple):
    """Name and version of everything that is compiled for a package, or to compile it."""
    command = [CARGO, "tree", "--locked", "--package", package, "--target", triple]
    command += ["--edges", "normal,build", "--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(command, cwd=sources, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    words = [line.split() for line in lines]
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


def only(bom, crates):
    """The document without the components that are none of these crates. All of these must be in it."""
    components = bom["metadata"]["component"], *bom["components"]
    kept = {c["bom-ref"] for c in components if (c["name"], c["version"]) in crates}
    missing = crates - {(c["name"], c["version"]) for c in components}
    if missing:
        sys.exit(f"sbom: cargo-cyclonedx does not list {sorted(missing)}")
    bom["components"] = [c for c in bom["components"] if c["bom-ref"] in kept]
    bom["dependencies"] = [
        {"ref": d["ref"], "dependsOn": [on for on in d.get("dependsOn", []) if on in kept]}
        for d in bom["dependencies"]
        if d["ref"] in kept
    ]
    return bom


def without(value, folder):
    """The same with no folder of this machine in any string."""
    if isinstance(value, dict):
        return {key: without(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [without(item, folder) for item in value]
    if isinstance(value, str):
        return value.replace(str(folder), "").replace(urllib.parse.quote(str(folder)), "")
    return value


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
