"""What holds for every file of the tree: format, syntax, and the promises of the house."""

import json
import os
import re
import subprocess

import pytest
import yaml

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
SKIP_DIRS = {".git", "build", "data", "node_modules", "__pycache__", ".cache", ".pytest_cache"}
TOP = {".ci", ".clang-format", ".dockerignore", ".editorconfig", ".gitignore", "CHANGELOG.md", "CMakeLists.txt",
       "CMakePresets.json", "CONTRIBUTING.md", "LICENSE", "README.md", "bench", "config", "docs", "promql", "script", "src", "storage", "tests"}
BINARY = (".gz", ".png", ".ico", ".woff2", ".bin", ".zip")


def walk(*tops):
    for top in tops or (".",):
        start = os.path.join(ROOT, top)
        if os.path.isfile(start):
            yield top
        for folder, dirs, files in os.walk(start):
            dirs[:] = sorted(d for d in dirs if d not in SKIP_DIRS)
            for name in sorted(files):
                yield os.path.relpath(os.path.join(folder, name), ROOT)


def read(path):
    with open(os.path.join(ROOT, path), "rb") as f:
        return f.read()


def text_files():
    for path in walk():
        if path.endswith(BINARY) or "/corpus/" in path or "/seeds/" in path:
            continue
        data = read(path)
        if b"\0" not in data:
            yield path, data


def of_kind(*endings, tops=()):
    return [p for p in walk(*tops) if p.endswith(endings)]


def test_sources_are_formatted():
    sources = of_kind(".c", ".h", ".cc", tops=("src", "storage", "promql", "tests", "bench"))
    assert sources
    r = subprocess.run(["clang-format-14", "--dry-run", "-Werror", "--ferror-limit=1", *sources],
                       cwd=ROOT, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr


def scripts():
    return [p for p in walk("script", ".ci")] + [p for p in of_kind(".sh")]


@pytest.mark.parametrize("path", scripts())
def test_shell_scripts_parse(path):
    assert read(path).startswith((b"#!/bin/bash\n", b"#!/bin/sh\n"))
    r = subprocess.run(["bash", "-n", path], cwd=ROOT, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr


@pytest.mark.parametrize("path", ["script/setup", "script/run", "script/test", ".ci/run"])
def test_scripts_can_be_called(path):
    assert os.access(os.path.join(ROOT, path), os.X_OK)


def test_python_compiles():
    paths = of_kind(".py")
    assert paths
    for path in paths:
        compile(read(path), path, "exec")


def test_json_parses():
    paths = [p for p in of_kind(".json") if not p.startswith("tests/") or p.startswith("tests/e2e")]
    assert paths
    for path in paths:
        json.loads(read(path))


def test_yaml_parses():
    paths = of_kind(".yml", ".yaml", tops=("config",))
    assert paths
    for path in paths:
        list(yaml.safe_load_all(read(path)))


def test_text_is_clean():
    """UTF-8, LF, one newline at the end, no blanks at ends of lines, no tabs where we write."""
    found = []
    for path, data in text_files():
        if path in ("LICENSE",) or path.endswith((".test", ".good.yml", ".bad.yml", ".om", ".prom")) \
                or path.startswith("tests/fuzz/") and not path.endswith(".c"):
            continue  # the licence as published; inputs whose bytes are the point
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            found.append(f"{path}: not UTF-8")
            continue
        if b"\r" in data:
            found.append(f"{path}: carriage return")
        if data and not data.endswith(b"\n"):
            found.append(f"{path}: no newline at the end")
        if path.endswith((".c", ".h", ".cc", ".py", ".yml", ".js", ".md", ".txt")) or path.startswith("script/"):
            for n, line in enumerate(data.split(b"\n"), 1):
                if line != line.rstrip(b" \t"):
                    found.append(f"{path}:{n}: blank at the end of the line")
                if path.endswith((".c", ".h", ".cc", ".py", ".yml")) and b"\t" in line:
                    found.append(f"{path}:{n}: tab")
    assert not found, "\n".join(found[:50])


def test_headers_are_guarded():
    found = [p for p in of_kind(".h") if b"#pragma once" not in read(p)]
    assert not found


def test_nothing_else_lies_at_the_top():
    """A file that a run left behind is easily committed with the rest."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    top = {path.split("/")[0] for path in listed.stdout.splitlines()}
    assert top <= TOP, top - TOP


def test_no_file_is_huge():
    found = [p for p in walk() if os.path.getsize(os.path.join(ROOT, p)) > 2 << 20]
    assert not found


def test_lock_files_name_no_registry():
    """A lock file with resolved addresses ties everybody to one registry."""
    for path in walk():
        if os.path.basename(path) == "package-lock.json":
            assert b'"resolved"' not in read(path), path


def test_links_of_the_documents_lead_somewhere():
    found = []
    for path in of_kind(".md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", read(path).decode()):
            if re.match(r"[a-z]+:", target):
                continue
            if not os.path.exists(os.path.join(ROOT, os.path.dirname(path), target)):
                found.append(f"{path}: {target}")
    assert not found, "\n".join(found)


def test_paths_named_by_the_documents_exist():
    """Paths in backquotes in README, CONTRIBUTING and docs/ that start with a top folder."""
    found = []
    for path in ["README.md", "CONTRIBUTING.md", *of_kind(".md", tops=("docs",))]:
        for name in re.findall(r"`((?:src|storage|promql|tests|config|script|docs|bench)/[\w./-]*)`", read(path).decode()):
            if not os.path.exists(os.path.join(ROOT, name)):
                found.append(f"{path}: {name}")
    assert not found, "\n".join(found)


def test_licence_is_apache_2():
    data = read("LICENSE")
    assert b"Apache License" in data and b"Version 2.0, January 2004" in data


def flags_marked(*marks):
    """Names of the server's flags that carry one of the marks, from the table itself."""
    rows = re.findall(r'^\s*(?:STR|BOOL|DUR|BYTES|INT|ENUM)\("([\w.-]+)",(.*)$', read("src/cli/server_flags.c").decode(), re.M)
    assert len(rows) > 40
    return [name for name, rest in rows if any(m in rest.split(', "', 1)[0] or re.search(rf"\b{m}\b", rest) for m in marks)]


def test_readme_names_what_has_no_effect():
    """Every flag that is accepted without effect, or refused, stands under "Not yet", and no other does."""
    section = read("README.md").decode().split("## Not yet")[1].split("\n## ")[0]
    named = set(re.findall(r"`--([\w.-]+)`", section))
    marked = set(flags_marked("LATER", "FLAG_REFUSED"))
    assert named == marked, {"not in the README": sorted(marked - named), "has an effect": sorted(named - marked)}


def test_readme_names_parts_of_the_configuration_without_effect():
    """The rows of src/config/later.c, each by its key."""
    section = read("README.md").decode().split("## Not yet")[1].split("\n## ")[0]
    keys = re.findall(r'^\s*\{ "([^"]+)",', read("src/config/later.c").decode(), re.M)
    assert keys
    named = re.findall(r"`(storage\.[\w.]+|global\.[\w.]+)`", section)
    keys_text = " ".join(keys)
    assert not [n for n in named if n not in keys_text], "has an effect by now"
    parts = [part for key in keys for part in re.split(r", |: ", re.sub(r" \(.*\)", "", key))]
    missing = [part for part in parts if part not in section]
    assert not missing
