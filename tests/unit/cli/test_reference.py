"""The reference pages say what the commands and settings are."""

from pathlib import Path

import pytest

from collegium.cli.reference import cli_page, settings_page

PAGES = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize(("page", "made"), [("cli.md", cli_page), ("configuration.md", settings_page)])
def test_the_page_is_in_step(page: str, made):
    assert (PAGES / page).read_text("utf-8") == made(), "run `python -m collegium.cli.reference docs/reference`"
