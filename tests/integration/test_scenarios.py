"""Stories that an operator could read: each `scenarios/*.txt` is commands and what they print, ids and figures made alike.

`pytest tests/integration/test_scenarios.py --rewrite` writes down what is printed now, for a person to look over.
"""

import re
import shlex
from pathlib import Path

import pytest
from servers import Installation, write_job

FOLDER = Path(__file__).parent / "scenarios"

ALIKE = (
    # What is weighed depends on the hour and the machine; that something was is what the story tells.
    (re.compile(r"(Where and when)\s*\n(?:.*\n)*?.*tells all\s*\n"), r"\1 …\n"),
    (re.compile(r"\b(job|run|lease|event)-[0-9a-hjkmnp-tv-z]{26}\b"), r"\1-…"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "<time>"),
    (re.compile(r"(?<![\w.-])[$\u2212+]?\d[\d,]*(\.\d+)?([eE]-?\d+)?"), "#"),
    # In the first hour of a day it is so many days since another day began.
    (re.compile(r"# d # h"), "# d"),
    (re.compile(r"/\S+/(job\.yaml|[\w.-]+)"), r"…/\1"),
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
    (re.compile(r"  +"), "  "),
)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_story_is_told_as_before(
    path: Path, system: Installation, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    told = []
    known = {"FOLDER": str(tmp_path)}
    for line in path.read_text().splitlines():
        if line.startswith("# "):
            told.append(line)
        if line.startswith("$ "):
            told.append(f"\n{line}")
            told.append(_printed(system, line[2:], tmp_path, known))
    story = re.sub(r"\n{3,}", "\n\n", "\n".join(told)).strip() + "\n"
    if request.config.getoption("--rewrite"):
        path.write_text(story)
    assert story == path.read_text()


def _printed(system: Installation, line: str, folder: Path, known: dict[str, str]) -> str:
    """Do one line of a story; `write NAME FIELD=VALUE...` makes a job's folder, all else is `ergonaut`."""
    for name, value in known.items():
        line = line.replace(f"${name}", value)
    words = shlex.split(line)
    if words[0] == "write":
        fields = dict(word.split("=", 1) for word in words[2:])
        write_job(folder / words[1], "print('done')", **fields)
        return ""
    done = system.cli(*words[1:], expect=None)
    if found := re.search(r"run-[0-9a-hjkmnp-tv-z]{26}", done.stdout):
        known["RUN"] = found[0]
    text = done.stdout + done.stderr.replace(str(folder), "")
    for pattern, alike in ALIKE:
        text = pattern.sub(alike, text)
    return f"{text.strip()}\n(exit {done.returncode})"
