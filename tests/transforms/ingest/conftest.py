"""The lakes of the quality checks, for what deduplication does inside a batch."""

from tests.quality.conftest import clean_lake as clean_lake
from tests.quality.conftest import copy_of as copy_of
