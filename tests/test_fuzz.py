"""Wrong input of every kind ends in a plan or in one clear line (the rule is in fuzz.py)."""

from __future__ import annotations

import fuzz
import pytest

CASES = 40  # per way in; `python tests/fuzz.py --cases 10000` runs more


@pytest.mark.parametrize("name", [*fuzz.TARGETS, *fuzz.COMMANDS])
def test_drawn_input(name: str) -> None:
    tally = fuzz.run_cases(name, CASES)
    assert tally["refused"] > 0 and sum(tally.values()) >= CASES // 2


@pytest.mark.parametrize(
    ("name", "key"), [("search --config", "lr"), ("--arch", "choices"), ("--search-space", "last")]
)
def test_every_snippet_is_refused_or_harmless(name: str, key: str) -> None:
    """Tags, bombs and depths, alone and as the value of a key that exists."""
    for snippet in fuzz.SNIPPETS:
        for text in (snippet, f"{key}: {snippet}"):
            fuzz.check_file(name, fuzz.encode(text))


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_the_examples_are_valid(name: str) -> None:
    """Else the mutations would only ever test the first check."""
    examples = fuzz.TARGETS[name].examples()
    contents = [
        e if isinstance(e, bytes) else fuzz.encode(e if isinstance(e, str) else fuzz.dump(e))
        for e in examples
    ]
    outcomes = [fuzz.check_file(name, content) for content in contents]
    assert "accepted" in outcomes


def test_the_rule_notices_what_it_must() -> None:
    """The oracle itself: library errors, other exceptions, exits, and files fail a case."""

    def library() -> None:
        int("x")

    def other() -> None:
        raise KeyError("x")

    def leave() -> None:
        raise SystemExit(1)

    for wrong in (library, other, leave):
        with pytest.raises((AssertionError, KeyError)):
            fuzz.survive(wrong)
    with pytest.raises(AssertionError), fuzz.empty_folder() as folder:
        (folder.parent / "outside").write_text("x")
