#!/usr/bin/env python3
"""Collects the licences of what the module and the command are made of:

    tools/licenses.py FOLDER

FOLDER has the lists that tools/sbom.py makes. THIRD-PARTY-LICENSES.txt, beside them, then names each of their
crates with its licence and notices, as the crate's source has them; what the Rust toolchain says of the
standard library; and the C libraries that are linked. A text that several crates have is there once.

The same crates and toolchain make the same bytes. A crate without any licence text is an error.
"""

import html.parser
import json
import os
import pathlib
import re
import subprocess
import sys

CARGO = os.environ.get("CARGO", "cargo")
RUSTC = os.environ.get("RUSTC", "rustc")
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LISTS = {"module": "wecom_callback_filter.cdx.json", "command": "wecom-callbacks.cdx.json"}
NAME = "THIRD-PARTY-LICENSES.txt"
# Files in a crate's source, in any of its folders.
TEXTS = re.compile(r"(UN)?LICEN[CS]ES?|COPYING|COPYRIGHT|NOTICE", re.IGNORECASE)
NO_TEXTS = {".rs", ".toml", ".json", ".sh", ".py"}
# What rustup's targets wasm32-wasip1 and x86_64-unknown-linux-musl link besides Rust.
C_LIBRARIES = """\
musl (in the command, and in parts of wasi-libc)
    Copyright (c) 2005-2020 Rich Felker, et al.
    MIT

wasi-libc (in the module)
    Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT
  its part cloudlibc
    Copyright (c) 2015-2017 Nuxi, https://nuxi.nl/
    BSD-2-Clause
  its part dlmalloc, by Doug Lea
    CC0: in the public domain

LLVM's libunwind (in the command)
    Copyright (c) 2009-2019 the contributors of LLVM
    Apache-2.0 WITH LLVM-exception
"""
C_LICENSES = ["MIT", "BSD-2-Clause", "Apache-2.0", "LLVM-exception"]


def main(folder):
    folder = pathlib.Path(folder)
    used = components(folder)
    sources = sources_of(used)
    toolchain = pathlib.Path(asked(RUSTC, "--print", "sysroot").strip(), "share/doc/rust")
    texts = Texts()

    lines = ["The licences of what wecom_callback_filter.wasm (the module) and wecom-callbacks (the command)"]
    lines += ["are made of, besides their own, which is in LICENSE.", "", "", title("Crates"), ""]
    for (name, version), parts in sorted(used.items()):
        license, source = sources[name, version]
        found = [f"{file} [{texts.number(text)}]" for file, text in texts_in(source)]
        if not found:
            sys.exit(f"licenses: {name} {version} has no text of its licence")
        lines += [f"{name} {version} ({' and '.join(parts)}): {license}", f"    {', '.join(found)}"]
    lines += ["", "", title("C libraries"), "", C_LIBRARIES]
    for license in C_LICENSES:
        text = toolchain / "licenses" / f"{license}.txt"
        number = f"[{texts.number(read(text))}]" if text.is_file() else missing(f"text of {license}")
        lines += [f"{license}: {number}"]
    lines += ["", "", title("Rust's standard library"), ""]
    notices = toolchain / "COPYRIGHT-library.html"
    lines += [without_tags(read(notices)) if notices.is_file() else missing("notices of the standard library")]
    for number, text in enumerate(texts.texts, 1):
        lines += ["", "", title(f"[{number}]"), "", text]
    (folder / NAME).write_text("\n".join(lines) + "\n")


def components(folder):
    """The crates of the lists, by name and version, with the lists that they are in."""
    used = {}
    for part, file in LISTS.items():
        for one in json.loads((folder / file).read_text())["components"]:
            used.setdefault((one["name"], one["version"]), []).append(part)
    return used


def sources_of(used):
    """What each of them says its licence is, and the folder of its source. Takes out what is of this repository."""
    metadata = json.loads(asked(CARGO, "metadata", "--locked", "--format-version", "1"))
    own = [package for package in metadata["packages"] if package["source"] is None]
    for package in own:
        used.pop((package["name"], package["version"]), None)
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}
    return {key: (packages[key]["license"], pathlib.Path(packages[key]["manifest_path"]).parent) for key in used}


def texts_in(source):
    """The licences and notices in a crate's source: the file's path in it, and the text."""
    files = (path for path in source.rglob("*") if TEXTS.match(path.name) and path.suffix not in NO_TEXTS)
    return sorted((str(path.relative_to(source)), read(path)) for path in files if path.is_file())


class Texts:
    """Texts by number, from 1, in the order in which they were first asked for."""

    def __init__(self):
        self.texts = []

    def number(self, text):
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


class WithoutTags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.words = []

    def handle_data(self, data):
        self.words.append(data)


def without_tags(page):
    parser = WithoutTags()
    parser.feed(page.split("<body>")[-1])
    return re.sub(r"\n\s*\n(\s*\n)+", "\n\n", "".join(parser.words)).strip()


def missing(what):
    """Debian's packages have their own places for these; a release is made with rustup's toolchain."""
    print(f"licenses: this toolchain has no {what}", file=sys.stderr)
    return f"(the toolchain has no {what})"


def title(words):
    return f"{words}\n{'=' * 80}"


def read(path):
    text = path.read_text(encoding="utf-8", errors="replace")
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def asked(*command):
    return subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
