"""Wrong input of every kind ends in a plan or in one clear line (the rule is in fuzz.py)."""

from __future__ import annotations

import fuzz
import pytest

CASES = 40  # per way in; `python tests/fuzz.py --cases 10000` runs more


@pytest.mark.parametrize("name", [*fuzz.TARGETS, *fuzz.COMMANDS])
def test_drawn_input(name: str) -> None:
    """The examples are valid: else the mutations would only ever test the first check."""
    if name in fuzz.TARGETS:
        examples = fuzz.TARGETS[name].examples()
        texts = [e if isinstance(e, (str, bytes)) else fuzz.dump(e) for e in examples]
        contents = [t if isinstance(t, bytes) else fuzz.encode(t) for t in texts]
        assert "accepted" in [fuzz.check_file(name, content) for content in contents]
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


def test_the_rule_notices_what_it_must() -> None:
    """The oracle itself: library errors, other exceptions, exits, and files fail a case."""

    def leave() -> None:
        raise SystemExit(1)

    for wrong in (lambda: int("x"), lambda: {}["x"], leave):
        with pytest.raises((AssertionError, KeyError)):
            fuzz.survive(wrong)
    with pytest.raises(AssertionError), fuzz.empty_folder() as folder:
        (folder.parent / "outside").write_text("x")
