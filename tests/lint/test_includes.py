"""The include arrows of the tree, and proof that the check sees each kind of breach."""

import os
import sys

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
import check_includes  # noqa: E402


def test_every_include_follows_the_map():
    found = check_includes.breaches(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "path, text, rule",
    [
        ("storage/x.c", '#include "nothing.h"\n', "(I1)"),
        ("storage/x.c", '#include "promql/promql.h"\n', "(I2)"),
        ("src/scrape/x.c", '#include "src/web/web.h"\n', "(I2)"),
        ("src/expo/x.c", '#include "src/discovery/discovery.h"\n', "(I2)"),
        ("src/newcomer/x.c", "\n", "(I2)"),
        ("promql/x.c", '#include "storage/wal.h"\n', "(I3)"),
        ("storage/storage.c", '#include "storage/wal.h"\n#include "storage/storage.h"\n', "(I4)"),
    ],
)
def test_breaches_are_seen(tmp_path, path, text, rule):
    for header in ("storage/storage.h", "storage/wal.h", "promql/promql.h", "src/web/web.h",
                   "src/discovery/discovery.h", "src/base/status.h"):
        (tmp_path / header).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / header).write_text("#pragma once\n")
    (tmp_path / "promql/eval.c").write_text('#include "promql/promql.h"\n#include "storage/storage.h"\n'
                                            '#include "src/base/status.h"\n')
    assert check_includes.breaches(tmp_path) == []
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    found = check_includes.breaches(tmp_path)
    assert len(found) == 1 and rule in found[0], found
