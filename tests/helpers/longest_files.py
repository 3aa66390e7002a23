"""The test files that take a minute or more, the longest first.

Workers take file after file in this order, so that at the end no worker waits for another that has a long file left.
"""

from __future__ import annotations

LONGEST_FILES = (
    "test_repro",
    "test_own_images_page",
    "test_share",
    "test_page_commands",
    "test_extraction_ray",
    "test_code",
    "test_parallel",
    "test_extraction",
    "test_caltech",
    "test_export_photographs",
    "test_layouts",
    "test_methods",
    "test_settings_matter",
    "test_export",
    "test_datasets",
    "test_page",
)
