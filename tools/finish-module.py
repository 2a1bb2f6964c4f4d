#!/usr/bin/env python3
"""Finishes a module that cargo has built: writes its version and commit into it.

    tools/finish-module.py FILE [COMMIT]

They become the custom sections `version` and `revision`, the names that wasm-tools uses
(`wasm-tools metadata show FILE`). Rust code cannot write them: `#[link_section]` is an unsafe
attribute, and the crate forbids unsafe code.

The file is replaced by a new one of the same age: tests compare its age with that of the sources, and
cargo's own file, to which FILE is a hard link, stays as it is. To finish a file twice changes nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

HEADER = b"\0asm\1\0\0\0"
CUSTOM = 0


def main(file, commit=""):
    sections = {"version": version(), "revision": commit}
    with open(file, "rb") as opened:
        module = opened.read()
    try:
        finished = with_sections(module, sections)
    except (IndexError, ValueError) as error:
        sys.exit(f"finish-module: {file} is no module: {error}")
    replace(file, finished)
    print(f"{file}: version {sections['version']}, commit {commit or 'unknown'}, {len(finished)} bytes")


def version():
    """The version in Cargo.toml, as cargo reads it."""
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--no-deps", "--format-version", "1"]
    repository = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    metadata = json.loads(subprocess.run(command, cwd=repository, check=True, stdout=subprocess.PIPE).stdout)
    [package] = [package for package in metadata["packages"] if package["name"] == "wecom-callback-filter"]
    return package["version"]


def with_sections(module, sections):
    """The module with these custom sections at its end, instead of any of their names."""
    if not module.startswith(HEADER):
        raise ValueError("wrong header")
    kept, at = [HEADER], len(HEADER)
    while at < len(module):
        size, content = number(module, at + 1)
        end = content + size
        if end > len(module):
            raise ValueError(f"the section at {at} goes beyond the end")
        if module[at] != CUSTOM or name(module, content) not in sections:
            kept.append(module[at:end])
        at = end
    return b"".join(kept) + b"".join(custom(name, text) for name, text in sections.items() if text)


def custom(name, text):
    name, text = name.encode(), text.encode()
    content = leb128(len(name)) + name + text
    return bytes([CUSTOM]) + leb128(len(content)) + content


def name(module, at):
    length, at = number(module, at)
    return module[at : at + length].decode()


def number(module, at):
    """The unsigned LEB128 number at that place, and the place behind it."""
    value = shift = 0
    while True:
        byte = module[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def leb128(value):
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def replace(file, content):
    """Renames a new file into the place, so that at no time there is half a module."""
    handle, new = tempfile.mkstemp(dir=os.path.dirname(file) or ".", prefix=os.path.basename(file) + ".")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
        shutil.copystat(file, new)
        os.replace(new, file)
    except BaseException:
        os.unlink(new)
        raise


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
