import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import harness  # noqa: E402


def pytest_configure(config):
    if not os.access(harness.BINARY, os.X_OK):
        raise pytest.UsageError(f"{harness.BINARY} is not there: build it, or name another with NX_BINARY")


@pytest.fixture
def stage(tmp_path):
    with harness.Stage(tmp_path) as s:
        yield s


@pytest.fixture(scope="module")
def module_stage(tmp_path_factory):
    with harness.Stage(tmp_path_factory.mktemp("stage")) as s:
        yield s


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """Ports of the real exporters and apps, by name."""
    from parts import Parts

    with harness.Stage(tmp_path_factory.mktemp("parts")) as stage:
        p = Parts(stage)
        yield p.ports
        p.close()
