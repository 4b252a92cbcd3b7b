"""Reads every #include of the sources and reports what docs/ARCHITECTURE.md's map of folders forbids.

  I1  Includes in quotes are written from the root of the tree and name a file that exists.
  I2  A folder includes only folders below it in LEVELS; folders of one level do not know each other.
  I3  From outside a folder only its front header (the folder's name; src/base: any header) is included.
  I4  A .c or .cc includes its own header first, where it has one.

usage: check_includes.py [ROOT]; prints one line a breach (file:line: what) and exits 1 if there are any.
"""

import os
import re
import sys

LEVELS = [
    ["src/base"],
    ["storage"],
    ["promql", "src/promdata", "src/template"],
    ["src/config"],
    ["src/relabel"],
    ["src/expo", "src/discovery"],
    ["src/scrape", "src/rules", "src/remote"],
    ["src/notify"],
    ["src/web"],
    ["src/cli"],
]
LEVEL_OF = {folder: i for i, folders in enumerate(LEVELS) for folder in folders}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.M)


def folder_of(path):
    return next((f for f in LEVEL_OF if path.startswith(f + "/")), None)


def check_file(root, path):
    """Yields the breaches of one file; `path` is from the root."""
    with open(os.path.join(root, path), encoding="utf-8") as f:
        text = f.read()
    includes = INCLUDE.findall(text)
    line_of = {m.group(1): text.count("\n", 0, m.start()) + 1 for m in reversed(list(INCLUDE.finditer(text)))}
    here = folder_of(path)
    own = os.path.splitext(path)[0] + ".h"
    if not path.endswith(".h") and os.path.exists(os.path.join(root, own)):
        if not includes or includes[0] != own:
            yield f'{path}:1: includes "{includes[0] if includes else ""}" before its own "{own}" (I4)'
    for included in includes:
        at = f"{path}:{line_of[included]}"
        if not os.path.exists(os.path.join(root, included)):
            yield f'{at}: "{included}" is not a file, seen from the root (I1)'
            continue
        there = folder_of(included)
        if there is None or there == here:
            continue
        if here is not None and LEVEL_OF[there] >= LEVEL_OF[here]:
            yield f"{at}: {here} may not include {there} (I2)"
        front = f"{there}/{os.path.basename(there)}.h"
        if here is not None and there != "src/base" and included != front:
            yield f'{at}: includes "{included}"; outside of {there} only "{front}" is (I3)'


def breaches(root):
    found = []
    for top in ("src", "storage", "promql"):
        for folder, dirs, files in os.walk(os.path.join(root, top)):
            dirs.sort()
            for name in sorted(files):
                path = os.path.relpath(os.path.join(folder, name), root)
                if not path.endswith((".c", ".h", ".cc")):
                    continue
                if folder_of(path) is None:
                    found.append(f"{path}: its folder is not on the map (I2)")
                    continue
                found.extend(check_file(root, path))
    return found


if __name__ == "__main__":
    lines = breaches(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../.."))
    for line in lines:
        print(line)
    sys.exit(1 if lines else 0)
