"""Drawing wrong input of every kind, and what a command must do with it.

A target is a way in which a user's text reaches the code: TARGETS maps its name to a Target. To
cover another file format, add one with a few valid examples; the mutations are shared. The suite
runs some hundred cases (test_fuzz.py); `python tests/fuzz.py --cases 10000 --seed 1` more.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import io
import itertools
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_flatten

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from config_file.arg_config.fields import make_parser, take  # noqa: E402
from config_file.arg_config.ranking_config import RankingConfig  # noqa: E402
from config_file.arg_config.run_config import Command  # noqa: E402
from config_file.arg_config.search_config import SearchConfig  # noqa: E402
from config_file.arg_config.sources import load_config  # noqa: E402
from config_file.arg_config.subnet_config import SubnetConfig  # noqa: E402
from config_file.arg_config.supernet_config import TrainSupernetConfig  # noqa: E402
from config_file.arg_config.table_config import TableConfig  # noqa: E402
from lookup_table import BudgetCounts, LookupTable, build_budget  # noqa: E402
from lookup_table.builder import load_table  # noqa: E402
from lookup_table.user_table import read_user_table, user_table_text  # noqa: E402
from model import SearchSpace, build_supernet, load_architecture, load_space  # noqa: E402
from model.space_file import SPACE_DIR, shipped_spaces  # noqa: E402
from search_strategy.benchmark import Benchmark  # noqa: E402
from utils.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from utils.errors import MAX_CHARS, one_line, raised_here  # noqa: E402
from utils.run_folder import check_title  # noqa: E402

TINY = ROOT / "tests" / "tiny.yaml"
PWNED = "pwned"  # a file that the snippets below make, should anything run them

LINES = f"""\
!!python/object/apply:os.system ["touch {PWNED}"]
!!python/object/new:os.system [touch {PWNED}]
!!python/name:os.system
!!python/module:antigravity
!!binary aGk=
!!set {{a, b}}
!!timestamp 2001-99-99
2001-01-01
!!float nan
!unknown x
-.inf
-1
1e999
&a [*a]
*nothing
{{<<: {{lr: 1}}, lr: 2}}
"\\e[31m\\0\\a"
"\\ud800"
""".splitlines()
BOMB = "".join(  # aliases of aliases: 9^9 values
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in itertools.pairwise("abcdefghi")
)
SNIPPETS = (
    *LINES,
    "0x" + "f" * 5000,
    "9" * 5000,
    "? [a, b]\n: c",
    "[" * 1200,
    "{a: " * 1200,
    "a: &a [x,x,x,x,x,x,x,x,x]\n" + BOMB,
    "%YAML 9.9\n---",
    "---\n---\n",
    "\t",
)
TEXT = """\
none null median yes 0 -1 1_0 １２ NaN ../../etc/passwd /dev/zero /dev/null a/../../b ~ digits
`touch${IFS}pwned` tiny.yaml k3_e3 skip --resume"""
WORDS = (*TEXT.split(), "", "a\0b", "$(touch pwned)", "x" * 5000, "\u202eevil", "\ud800")

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.integers(),
    st.integers(10**18, 10**40),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(WORDS),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(scalars, inner, max_size=4)
    ),
    max_leaves=8,
)


@dataclass(frozen=True)
class Target:
    """A way in for users' text.

    Attributes:
        examples: valid documents, as Python values or as text.
        act: uses a file with the drawn content; raises what the command would raise.
        suffix: of the file.
    """

    examples: Callable[[], list[Any]]
    act: Callable[[Path], None]
    suffix: str = ".yaml"


def mutate(draw: Callable, document: Any) -> Any:
    """A copy with one place changed: replaced, removed, added to."""
    document = copy.deepcopy(document)
    place, parents = document, []
    while isinstance(place, (dict, list)) and place and (not parents or draw(st.booleans())):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        parents.append((place, key))
        place = place[key]
    if not parents:
        return draw(values)
    parent, key = parents[-1]
    how = draw(st.integers(0, 3))
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, dict):
        new_key = draw(st.one_of(st.text(max_size=8), scalars.filter(lambda v: v == v)))
        parent[new_key] = draw(values)
    elif how == 2 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        parent[key] = draw(values)
    return document


@st.composite
def contents(draw: Callable, target: Target) -> bytes:
    """Draw the bytes of a file: an example, or one changed as a value, text or bytes; or junk."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(encode)))
    if kind == 1:
        return encode(draw(st.sampled_from(SNIPPETS)))
    example = draw(st.sampled_from(target.examples()))
    if not isinstance(example, (str, bytes)):
        for _ in range(draw(st.integers(0, 3))):
            example = mutate(draw, example)
        example = dump(example)
    if kind <= 4 and isinstance(example, str):  # a line twice, or another value in one
        lines = example.splitlines() or [""]
        at = draw(st.integers(0, len(lines) - 1))
        key = lines[at].split(":")[0]
        if draw(st.integers(0, 2)) == 0:
            lines.insert(at, draw(st.sampled_from(lines)))
        else:
            lines[at] = f"{key}: {draw(st.sampled_from(SNIPPETS + WORDS))}"
        example = "\n".join(lines)
    data = example if isinstance(example, bytes) else encode(example)
    if kind == 5 and data:  # a bit flipped, or cut off
        at = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
        return data[:at]
    return data


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def dump(document: Any) -> str:
    try:
        return yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
    except (yaml.YAMLError, UnicodeError, RecursionError, TypeError):
        return repr(document)


# What the targets do with a file.

_tables: dict[str, LookupTable] = {}  # by fingerprint; of equal spaces one is enough


def table_of(space: SearchSpace) -> LookupTable:
    if space.fingerprint not in _tables:
        _tables[space.fingerprint] = load_table(space)
    return _tables[space.fingerprint]


def check_titled(config: Command) -> None:
    """Check the title as the start of a run does."""
    if config.run.title is not None:
        check_title(config.run.title)


def plan_search(argv: list[str]) -> None:
    """All of search.py that comes before data and training."""
    config = load_config(SearchConfig, "search", argv)
    check_titled(config)
    given = config.space
    space = load_space(given.search_space, config.data.input_size, 10, given.widths)
    config = config.resolve(space, None, 1)
    metric = config.budget.info_metric
    if metric == "latency":  # measured, which is no part of a plan
        return
    if max(space.widths) <= 64 and space.input_size <= 32 and space.num_layers <= 8:
        table = table_of(space)
        budget = build_budget(table, config.resolve(space, table, 1).budget.limits(table))
        flags = config.strategies[config.search_strategy]
        config.strategy(flags, budget, np.random.default_rng(0))


def run_meta(space: SearchSpace) -> None:
    """Build and run an accepted space, without memory."""
    if space.num_layers <= 24 and space.max_choices <= 8 and space.input_size <= 64:
        with torch.device("meta"), torch.no_grad():
            supernet = build_supernet(space).eval()
            path = [random.Random(int(n)).randrange(int(n)) for n in space.num_choices]
            logits = supernet(torch.zeros(2, 3, space.input_size, space.input_size), path)
        assert logits.shape == (2, space.num_classes)


def use_architecture(path: Path) -> None:
    space, _ = load_architecture(path)
    run_meta(space)


CONFIG = {
    "search-space": str(TINY),
    "lr": 0.01,
    "epochs": 3,
    "optimizer": "adamw",
    "augment": True,
    "widths": [8, 8, 8, 16, 32],
    "target-hc": "median",
    "min-hc": None,
    "population": 8,
    "parent-num": 2,
    "search-strategy": "evolution",
    "input-size": 8,
}
SUBNET_CONFIG = {"arch": "spos", "epochs": 2, "mixup": 0.2, "ema-decay": 0.9, "input-size": 8}


def architecture_examples() -> list[Any]:
    tiny = {"search_space": str(TINY), "widths": [8, 8, 8, 16, 32], "input_size": 8}
    tiny |= {"num_classes": 10, "choices": ["k3_e3", "skip", "k3_e6", "k5_e3"], "top1": 91.5}
    fbnet = {"search_space": "fbnet", "input_size": 32, "num_classes": 3, "choices": ["k3_e1"] * 22}
    return [tiny, fbnet]


def space_examples() -> list[Any]:
    own = yaml.safe_load(TINY.read_text())
    extended = {"extends": "fbnet", "width_mult": 0.5, "choices": ["k3_e1", "skip"], "last": 64}
    overridden = copy.deepcopy(own)
    overridden["stages"][1] |= {"choices": ["k3_e3"], "layer_choices": {2: ["k5_e6", "skip"]}}
    shipped = [(SPACE_DIR / f"{name}.yaml").read_text() for name in shipped_spaces()]
    return [own, own, extended, overridden, *shipped]


@functools.cache
def checkpoint_examples() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.pt"
        state = {"supernet": {"w": torch.ones(2, 2)}, "optimizer": {}, "scheduler": {}}
        state |= {"sampler": {}, "loader": {}, "epoch": 1, "facts": {"a": 1}, "config": {}}
        save_checkpoint(path, **state)
        return [path.read_bytes()]


def use_checkpoint(path: Path) -> None:
    """Check that what is accepted has the content of the example."""
    loaded, tree = tree_flatten(load_checkpoint(path))
    example, wanted = tree_flatten(torch.load(io.BytesIO(checkpoint_examples()[0])))
    same = [
        torch.equal(a, b) if isinstance(b, torch.Tensor) else a == b
        for a, b in zip(loaded, example, strict=True)
    ]
    assert tree == wanted and all(same), "a changed checkpoint was accepted"


def tiny_space() -> SearchSpace:
    return load_space(TINY, 8, 10)


def tiny_table() -> LookupTable:
    return table_of(tiny_space())


def table_examples() -> list[str]:
    text = user_table_text(tiny_space(), tiny_table(), "flops")
    return [text, text.replace("metric: flops", "metric: energy"), "metric: latency\n" + text]


def table_csv_examples() -> list[str]:
    table, rows = tiny_table(), ["# device: phone", "layer,choice,latency", "fixed,,1.5"]
    for i, layer in enumerate(tiny_space().layers):
        rows += [f"{i + 1},{c},{table.costs['flops'][i, j]}" for j, c in enumerate(layer.choices)]
    return ["\n".join(rows)]


def benchmark_examples() -> list[Any]:
    """Networks of the tiny space: a digit per layer."""
    networks = {
        f"{a}{b}02": {"mean_acc": 80.0 + a, "std": 0.1 * b} for a in (0, 1, 2) for b in (0, 1)
    }
    return [json.dumps(networks), json.dumps({k: v["mean_acc"] for k, v in networks.items()})]


def use_table(path: Path) -> None:
    table = read_user_table(path, tiny_space(), tiny_table())
    for metric in table.costs:
        BudgetCounts(table, metric)


def subnet_plan(argv: list[str]) -> None:
    check_titled(load_config(SubnetConfig, "subnet", argv))


TARGETS: dict[str, Target] = {
    "search --config": Target(
        lambda: [CONFIG, CONFIG | {"title": "mine"}, "", "lr: 0.1\nlr: 0.2\n"],
        lambda f: plan_search(["--config", str(f)]),
    ),
    "train_subnet --config": Target(
        lambda: [SUBNET_CONFIG, {"arch": "fbnet_c"}], lambda f: subnet_plan(["--config", str(f)])
    ),
    "--arch": Target(architecture_examples, use_architecture),
    "--search-space": Target(space_examples, lambda f: run_meta(load_space(f, 16, 10))),
    "--lookup-table (YAML)": Target(table_examples, use_table),
    "--lookup-table (CSV)": Target(table_csv_examples, use_table, ".csv"),
    "--benchmark": Target(
        benchmark_examples, lambda f: Benchmark.read(f, tiny_space()) and None, ".json"
    ),
    "--checkpoint": Target(checkpoint_examples, use_checkpoint, ".pt"),
}


# Flags: the words of a command line.


def plan_table(argv: list[str]) -> None:
    take(TableConfig, make_parser(TableConfig, "table").parse_args(argv)).check()


COMMANDS: dict[str, tuple[type, Callable[[list[str]], Any]]] = {
    "search.py": (SearchConfig, plan_search),
    "train_supernet.py": (TrainSupernetConfig, lambda a: load_config(TrainSupernetConfig, "", a)),
    "train_subnet.py": (SubnetConfig, subnet_plan),
    "evaluate_ranking.py": (RankingConfig, lambda a: load_config(RankingConfig, "", a)),
    "-m lookup_table": (TableConfig, plan_table),
}


BEGINNINGS = {"train_subnet.py": ["--arch", "fbnet_c", "--input-size", "32"]}
BEGINNING = ["--search-space", str(TINY), "--input-size", "8"]


@st.composite
def command_lines(draw: Callable, name: str) -> list[str]:
    """Some flags with values of any kind, behind a beginning that is valid or not."""
    parser = make_parser(COMMANDS[name][0], "")
    flags = [s for a in parser._actions for s in a.option_strings if s not in ("-h", "--help")]
    words = [] if draw(st.booleans()) else list(BEGINNINGS.get(name, BEGINNING))
    for _ in range(draw(st.integers(0, 5))):
        flag = draw(st.one_of(st.sampled_from(flags), st.text(max_size=6).map("--{}".format)))
        value = str(draw(scalars)).replace("\0", "").encode("utf-8", "replace").decode()
        how = draw(st.integers(0, 3))
        words += {0: [f"{flag}={value}"], 1: [flag, value], 2: [flag, value], 3: [flag]}[how]
    return [w for w in words if w not in ("-h", "--help")]


# The rule.


def survive(act: Callable[[], Any]) -> str:
    """Run it: "accepted" or "refused"; anything else than a clear refusal is an AssertionError."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            act()
    except SystemExit as stop:
        text = said.getvalue()
        assert stop.code == 2, stop.code
        assert text.startswith("error: ") and text.count("\n") == 1, text
        return "refused"
    except ValueError as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        assert raised_here(error), f"a library's ValueError: {error!r} at {last}"
        assert (last.line or "raise").startswith("raise"), (
            f"not raised on purpose: {error!r} {last}"
        )
        line = one_line(error)
        assert line and line.isprintable() and len(line) < MAX_CHARS + 20
        return "refused"
    except OSError as error:
        assert one_line(error)
        return "refused"
    return "accepted"


@contextlib.contextmanager
def empty_folder():
    """A working directory in which nothing may appear."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer) / "inner"
        inner.mkdir()
        os.chdir(inner)
        try:
            yield inner
        finally:
            os.chdir(before)
        assert [p.name for p in Path(outer).rglob("*")] == ["inner"], list(Path(outer).rglob("*"))


def check_file(name: str, content: bytes) -> str:
    """One case of a file target."""
    target = TARGETS[name]
    with empty_folder() as folder:
        file = folder / f"drawn{target.suffix}"
        file.write_bytes(content)
        try:
            return survive(lambda: target.act(Path(file.name)))
        finally:
            file.unlink()


def check_flags(name: str, words: list[str]) -> str:
    """One case of a command line."""
    with empty_folder():
        return survive(lambda: COMMANDS[name][1](words))


def run_cases(name: str, cases: int, seed_number: int | None = None) -> Counter:
    """Run so many cases of a target or a command; how many were accepted and refused."""
    tally: Counter = Counter()
    is_file = name in TARGETS
    drawn = contents(TARGETS[name]) if is_file else command_lines(name)
    check = check_file if is_file else check_flags

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=seed_number is None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(drawn)
    def case(content: Any) -> None:
        tally[check(name, content)] += 1

    (case if seed_number is None else seed(seed_number)(case))()
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", help="names of ways in")
    args = parser.parse_args()
    names = args.only or [*TARGETS, *COMMANDS]
    start, total = time.perf_counter(), 0
    for name in names:  # the first failure ends it, with the smallest case that fails
        tally = run_cases(name, -(-args.cases // len(names)), args.seed)
        total += sum(tally.values())
        print(f"{name:<26}{tally['accepted']:>7} accepted{tally['refused']:>7} refused", flush=True)
    print(f"{total} cases in {time.perf_counter() - start:.0f} s, no other outcome")


if __name__ == "__main__":
    main()
