"""The shop of the tests of the journal, and of takedowns that are cut off."""

import pytest
from a_project import Project
from a_takedown import RED


@pytest.fixture
def shop(project: Project) -> Project:
    """Two originals with the same bytes, and one of its own."""
    project.recipes("[half]\nscale = 0.5\n")
    for path in RED:
        project.add(path, seed=1)
    project.add("blue.png", seed=2)
    project.run()
    return project
