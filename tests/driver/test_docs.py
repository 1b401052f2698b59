"""What the documents show runs as it stands: their programs, commands and answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.documents import ROOT, Document, Place, Step, read

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
RUN = [path for path in DOCUMENTS if read(path).program]
#: Blocks that no test runs, in all documents together.
MOST_SKIPPED = 5


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.crash
@pytest.mark.parametrize("path", RUN, ids=named)
def test_document_runs(tmp_path: Path, path: Path) -> None:
    document = read(path)
    place = settle(tmp_path, path.stem.lower(), document)
    with place.worker():
        for step in document.steps:
            place.play(step)


@pytest.mark.crash
def test_program_of_the_readme_counts_across_a_kill(tmp_path: Path) -> None:
    place = settle(tmp_path, "shop", read(ROOT / "README.md"))
    order = """echo '{"user": "ann", "amount": 2}' | streamapp send orders --key-field user"""
    total = "streamapp tail shop-spent-changelog -n 1"
    with place.worker():
        place.play(Step(order, "Sent 1 record..."))
        place.play(Step(total, "...@ann  2.0"))
    place.play(Step(order, "Sent 1 record..."))
    with place.worker():
        place.play(Step(total, "...@ann  4.0"))


def test_few_blocks_are_not_run() -> None:
    assert sum(read(path).skipped for path in DOCUMENTS) <= MOST_SKIPPED


def test_links_lead_to_files() -> None:
    for path in DOCUMENTS:
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{named(path)}: {link}"


def settle(folder: Path, module: str, document: Document) -> Place:
    (folder / f"{module}.py").write_text(document.program, encoding="utf-8")
    return Place(folder, module)
