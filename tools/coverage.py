"""Prints what tools/coverage.sh measured, and fails where it is too little.

    coverage.py REPORT.lcov LEAST_PER_CENT_OF_LINES
"""

import os
import re
import sys
from collections import defaultdict
from pathlib import Path

# What decides about callbacks. Of these every line that no test reaches is listed.
GROUPS = {
    "worker": re.compile(r"src/worker(\.rs|/.*)"),
    "exchange": re.compile(r"src/exchange(\.rs|/.*)"),
    "dedup": re.compile(r"src/dedup(\.rs|/.*)"),
}
TESTS = re.compile(r"(.*[/_])?tests(\.rs|/.*)")
TESTS_BEGIN = re.compile(r"#\[cfg\((all\()?test\b")  # to the end of a file, as everywhere in src/


class File:
    def __init__(self, path):
        self.path = path
        source = Path(path).read_text().splitlines()
        self.end = next((i for i, line in enumerate(source, 1) if TESTS_BEGIN.match(line)), len(source) + 1)
        self.lines = defaultdict(int)
        self.branches = defaultdict(int)

    def missed(self):
        return sorted(line for line, count in self.lines.items() if not count)


def read(report):
    """The measured files of src/. A generic function is counted once for all its types."""
    files, file = {}, None
    for record in Path(report).read_text().splitlines():
        kind, _, value = record.partition(":")
        if kind == "SF":
            path = os.path.relpath(value)
            file = None
            if path.startswith("src/") and not TESTS.fullmatch(path):
                file = files.setdefault(path, File(path))
        elif kind in ("DA", "BRDA") and file:
            line, *branch, count = value.split(",")
            if int(line) < file.end:
                counts, key = (file.lines, int(line)) if kind == "DA" else (file.branches, (int(line), *branch))
                counts[key] += 0 if count == "-" else int(count)
    return [files[path] for path in sorted(files)]


def share(files, counts):
    every = [count for file in files for count in getattr(file, counts).values()]
    return sum(map(bool, every)), len(every)


def cell(files, counts):
    reached, every = share(files, counts)
    return f"{reached:5} of {every:5} {100 * reached / every:7.2f} %" if every else f"{'-':>24}"


def ranges(numbers):
    found = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def main(report, least):
    files = read(report)
    if not files:
        sys.exit(f"coverage: {report} names no file of src/")
    width = max(len(file.path) for file in files)
    row = lambda name, files: print(f"{name:{width}}  {cell(files, 'lines')}  {cell(files, 'branches')}")

    print(f"\n{'':{width}}  {'lines reached':>24}  {'branches taken':>24}")
    for file in files:
        row(file.path, [file])
    row("all", files)

    print()
    short = []
    for name, pattern in GROUPS.items():
        group = [file for file in files if pattern.fullmatch(file.path)]
        row(name, group)
        for file in group:
            if missed := file.missed():
                print(f"  no test reaches {file.path}: {ranges(missed)}")
        reached, every = share(group, "lines")
        if reached * 100 < float(least) * every:
            short.append(name)
    if short:
        sys.exit(f"\ncoverage: under {least} % of lines: {', '.join(short)}")


main(*sys.argv[1:])
