"""A clean run that the tests of the suite itself hold things against."""

from __future__ import annotations

import pytest

from tests.faults.in_process import Clean, clean_run


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    """One undisturbed run; to be copied, not changed."""
    return clean_run(tmp_path_factory.mktemp("clean"))
