"""Warnings of torch.export and transformers that no model and no test of ours can avoid."""

import pytest

THIRD_PARTY = (
    "ignore::DeprecationWarning:torch.*",
    "ignore::FutureWarning:torch.*",
    "ignore::DeprecationWarning:transformers.*",
    "ignore::FutureWarning:transformers.*",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for warning in THIRD_PARTY:
            item.add_marker(pytest.mark.filterwarnings(warning))
