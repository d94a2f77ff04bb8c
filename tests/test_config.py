"""Where flag values come from, and every flag's name and default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from config_file.arg_config.fields import changed, make_parser, plain, values_of
from config_file.arg_config.run_config import RECIPES
from config_file.arg_config.search_config import SearchConfig
from config_file.arg_config.sources import SAMPLER_SECTIONS, load_config, write_config
from config_file.arg_config.subnet_config import SubnetConfig
from config_file.arg_config.supernet_config import TrainSupernetConfig, is_superkernel
from data import DATASETS
from lookup_table import BudgetCounts, LookupTable
from model import space_file


def search_config(*words: str) -> SearchConfig:
    return load_config(SearchConfig, "search", words)


def search_args(*words: str) -> SimpleNamespace:
    """The flags of search.py by name."""
    return SimpleNamespace(**values_of(search_config(*words)))


def test_names_and_defaults_of_the_issue() -> None:
    args = search_args()
    expected = {
        "search_strategy": "evolution",
        "search_space": "proxylessnas",
        "sample_strategy": None,  # uniform, or what the search strategy needs
        "dataset": "digits",
        "info_metric": "flops",
        "random_iteration": 1000,
        "generation_num": 20,
        "population": 60,
        "parent_num": 10,
        "mutation_prob": 0.1,
        "train_portion": 0.8,
        "target_hc": "median",
        "min_hc": None,
        "title": None,
        "checkpoint": None,
        "device": "auto",
    }
    assert {name: getattr(args, name) for name in expected} == expected
    names = """
        data_path epochs batch_size optimizer lr momentum weight_decay lr_scheduler decay_step
        decay_ratio warmup_epochs label_smoothing grad_clip random_seed num_workers
        calibration_batches
    """
    assert set(names.split()) <= vars(args).keys()


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_recipe_sets_every_flag_that_has_no_default(dataset: str) -> None:
    args = search_args("--dataset", dataset)
    may_be_none = """
        title config widths data_path checkpoint min_hc sample_strategy oracle lookup_table
        init_from tracker hc_weight temperature_decay color_jitter zero_init
        gumbel_hard
    """
    may = set(may_be_none.split()) - ({"hc_weight"} if dataset == "digits" else set())
    unset = {name for name, value in vars(args).items() if value is None}
    assert unset - {"grad_clip"} == may
    recipe = yaml.safe_load((RECIPES / f"{dataset}.yaml").read_text())
    sections = recipe.pop("sampler", {})
    assert sections.keys() <= set(SAMPLER_SECTIONS)
    for flags in (recipe, *sections.values()):
        assert {key.replace("-", "_") for key in flags} <= vars(args).keys()


def test_the_order_of_layers(tmp_path: Path) -> None:
    """default < recipe < file < command line; '-' and '_' are the same; null takes a value back."""
    file = tmp_path / "c.yaml"
    file.write_text("lr: 0.5\nbatch_size: 32\ngeneration-num: 7\ntarget-hc: null\nresume: x\n")
    with pytest.raises(ValueError, match="unknown key 'resume'"):
        search_args("--config", str(file))
    file.write_text(
        "lr: 0.5\nbatch_size: 32\ngeneration-num: 7\ntarget-hc: null\nrandom-control: false\n"
        "cuda-graphs: false\n"  # of old runs
        "widths: [8, 8, 8, 8, 8, 8, 8, 8, 64]\n"
    )
    args = search_args("--config", str(file), "--batch-size", "16", "--generation_num=9")
    assert (args.lr, args.batch_size, args.generation_num) == (0.5, 16, 9)
    assert args.target_hc is None and args.random_control is False and args.mutation_prob == 0.1
    assert args.widths == (*[8] * 8, 64)
    assert args.epochs == yaml.safe_load((RECIPES / "digits.yaml").read_text())["epochs"]


def test_a_file_holds_settings_per_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """default < recipe < its sampler's < file < its sampler's < command line."""
    recipe = yaml.safe_load((RECIPES / "digits.yaml").read_text())
    recipe |= {"a-lr": 0.1, "epochs": 10}
    recipe["sampler"] = {
        "softmax": {"a-lr": 0.2, "epochs": 11, "hc-loss": "hinge"},
        "threshold": {"a-lr": 0.3},
        "gumbel-hard": {"a-lr": 0.4},
    }
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(recipe))

    monkeypatch.setattr(SearchConfig, "recipes", (tmp_path,))
    args_of = search_args
    softmax = ("--search-strategy", "gradient", "--sample-strategy", "differentiable")
    args = args_of(*softmax)  # softmax, as `resolve` finds later
    assert (args.a_lr, args.epochs, args.hc_loss) == (0.2, 11, "hinge")
    assert args_of("--search-strategy", "gradient").a_lr == 0.4  # hard, likewise
    assert args_of("--search-strategy", "gradient", "--no-gumbel-hard").a_lr == 0.1
    assert args_of().a_lr == 0.1 and args_of("--sample-strategy", "gumbel").a_lr == 0.1
    assert args_of("--search-strategy", "gradient", "--search-space", "singlepath").a_lr == 0.3
    assert args_of("--sample-strategy", "gumbel", "--gumbel-hard").a_lr == 0.4
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 12\nsampler:\n  softmax: {hc-loss: abs}\n  gumbel: {epochs: 13}\n")
    words = (*softmax, "--config", str(file), "--a-lr", "0.5")
    args = args_of(*words)
    assert (args.a_lr, args.epochs, args.hc_loss) == (0.5, 12, "abs")
    assert args_of("--sample-strategy", "gumbel", "--config", str(file)).epochs == 13
    write_config(tmp_path / "config.yaml", search_config(*words))
    again = search_config("--config", str(tmp_path / "config.yaml"))
    assert plain(again) == plain(search_config(*words))


def test_a_file_may_name_the_dataset_and_gets_its_recipe(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("dataset: cifar10\n")
    assert search_args("--config", str(tmp_path / "c.yaml")).input_size == 32


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lrr: 0.1", r"unknown key 'lrr' \(did you mean 'lr'\?\)"),
        ("generation-nums: 3", "did you mean 'generation-num'"),
        ("[1, 2]", "must be a mapping"),
        ("a: b: c", "not valid YAML"),
        ("random-control: maybe", "true or false"),
        ("lr: {a: 1}", "cannot be a mapping"),
        ("sampler: softmax", "must map samplers"),
        ("sampler: {soft: {lr: 1}}", "not 'soft'"),
        ("sampler: {softmax: {a-lrr: 1}}", "did you mean 'a-lr'"),
        ("checkpoint: none.pt", "none.pt does not exist"),
    ],
)
def test_a_bad_file_is_a_clear_error(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match=says):
        search_args("--config", str(tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    "text", ["lr: fast", "epochs: 1.5", "dataset: mnist", "search-strategy: luck", "epochs: true"]
)
def test_values_in_a_file_are_checked_like_typed_ones(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        search_args("--config", str(tmp_path / "c.yaml"))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: argument --" + text.split(":")[0]) and error.count("\n") == 1
    assert "c.yaml; see --help" in error


def test_config_yaml_gives_the_same_flags_back(tmp_path: Path) -> None:
    config = search_config("--lr", "1e-3", "--min-hc", "3.25", "--widths", "8,8,8,8,8,8,8,8,64")
    write_config(tmp_path / "config.yaml", config)
    again = search_config("--config", str(tmp_path / "config.yaml"))
    assert changed(again, config=None) == config and again != config


def test_a_config_is_a_value() -> None:
    config = search_config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.training.lr = 1.0  # type: ignore[misc]
    other = changed(config, lr=1.0, parent_num=3, title="t")
    assert (other.training.lr, other.run.title) == (1.0, "t")
    assert other.strategies["evolution"].parent_num == 3
    assert config == search_config() and other != config
    with pytest.raises(AssertionError, match="learning_rate"):
        changed(config, learning_rate=1.0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--oracle a --checkpoint b.pt", "b.pt does not exist"),
        ("--oracle a --search-strategy gradient", "no gradients"),
        ("--oracle a --score separation", "--score separation"),
        ("--search-strategy pareto --smooth", "--smooth goes with random, evolution"),
        ("--search-strategy gradient --sample-strategy fair", "trains no architecture param"),
        ("--parent-num 99", "--parent-num 99 is more than --population 60"),
        ("--objectives flops flops --search-strategy pareto", "different metrics"),
        ("--dry-run --resume --title t", "nothing to resume|leave --resume out"),
        ("--sandwich", "--sandwich needs a superkernel"),
        ("--sample-strategy threshold", "is no superkernel"),
        ("--search-space singlepath --sample-strategy gumbel", "is a superkernel"),
        ("--sample-strategy fair --sample-in-budget", "is a form of --sample-strategy uniform"),
        ("--search-space singlepath --sandwich --sample-in-budget", "which --sample-in-budget"),
        ("--sample-bins 7", "needs --sample-in-budget"),
        ("--sample-bins 7 --sample-in-budget --limit params=1", "leave --limit out"),
        ("--checkpoint-activations", "sums of all choices"),
        ("--sample-strategy binary --weight-paths always", "sums of all choices"),
        ("--sample-strategy gumbel --gumbel-sampled-gradient", "needs --gumbel-hard"),
        ("--indicator-dropout 0.1", "closes the gates of threshold"),
        ("--search-strategy gradient --a-warmup-epochs 40", "leaves none of 40 epochs"),
        ("--search-space nowhere", "search space 'nowhere' does not exist"),
    ],
)
def test_flags_are_checked_before_anything_is_loaded(words: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        search_config(*words.split())


def test_flags_of_a_strategy_not_in_use_are_not_checked_but_named() -> None:
    config = search_config("--search-strategy", "random", "--population", "4", "--a-lr", "1")
    assert config.ignored_flags() == ["--a-lr", "--population"]


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        ("--optimizer adamw --rmsprop-alpha 0.9 --nesterov", "nesterov rmsprop-alpha"),
        ("--optimizer sgd --nesterov --rmsprop-eps 0.1", "rmsprop-eps"),
        ("--optimizer sgd --momentum 0 --nesterov", "nesterov"),
        ("--optimizer rmsprop --rmsprop-alpha 0.9 --rmsprop-eps 0.1 --no-nesterov", "nesterov"),
        ("--decay-step 3 --decay-ratio 0.5", "decay-ratio decay-step"),
        ("--lr-scheduler step --decay-step 3 --decay-ratio 0.5", ""),
    ],
)
def test_flags_of_another_optimizer_or_schedule_are_named(words: str, idle: str) -> None:
    """Typed ones only: --decay-step has a value in every run."""
    expected = [f"--{name}" for name in idle.split()]
    assert search_config(*words.split()).ignored_flags() == expected
    subnet = load_config(SubnetConfig, "", ["--arch", "fbnet_c", *words.split()])
    assert subnet.ignored_flags() == expected


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        ("--a-optimizer adam --a-momentum 0.5 --a-betas 0,0.9", ["--a-momentum"]),
        ("--a-optimizer sgd --a-momentum 0.5 --a-betas 0,0.9", ["--a-betas"]),
    ],
)
def test_flags_of_the_other_optimizer_of_alpha_are_named(words: str, idle: list[str]) -> None:
    config = search_config("--sample-strategy", "softmax", *words.split())
    assert config.ignored_flags() == idle


def test_a_typed_warm_up_leaves_epochs_at_the_full_rate() -> None:
    for kind, more in ((SearchConfig, []), (SubnetConfig, ["--arch", "fbnet_c"])):
        with pytest.raises(ValueError, match="--warmup-epochs 3 leaves none of 3 epochs"):
            load_config(kind, "", [*more, "--epochs", "3", "--warmup-epochs", "3"])
        load_config(kind, "", [*more, "--epochs", "3", "--warmup-epochs", "2"])
        assert load_config(kind, "", [*more, "--epochs", "1"]).training.warmup_epochs >= 1


def test_none_takes_a_recipes_colour_jitter_back(capsys: pytest.CaptureFixture) -> None:
    recipe = ("--config", str(RECIPES.parent / "search" / "spos.yaml"))
    assert search_args(*recipe).color_jitter == (0.4, 0.4, 0.4, 0)
    assert search_args(*recipe, "--color-jitter", "none").color_jitter is None
    for text in ("0.4,0.4,0.4", "0.4,0.4,0.4,0.6", "no"):
        with pytest.raises(SystemExit):
            search_args("--color-jitter", text)
        assert "is neither none nor four numbers" in capsys.readouterr().err


def test_an_unknown_flag_gets_the_nearest(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        search_args("--stratgy", "evolution")
    assert stopped.value.code == 2
    assert "--stratgy evolution (did you mean '--search-strategy'?)" in capsys.readouterr().err


def test_the_file_of_the_space_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    load = space_file.load_space_file
    monkeypatch.setattr(space_file, "load_space_file", lambda name: read.append(name) or load(name))
    is_superkernel.cache_clear()
    search_config("--search-strategy", "gradient")
    assert read == ["proxylessnas"]


def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    command = "python search.py --search-space nas_bench_macro --oracle nas_bench_macro.json"
    command += " --seeds 5"
    text = f"Search a network.\n\n{command}      # within a budget\npython search.py --help"
    monkeypatch.setenv("COLUMNS", "80")
    shown = make_parser(SearchConfig, text).format_help()
    assert max(map(len, shown.splitlines())) <= 80
    joined = shown.replace(" \\\n   ", "")
    assert f"# within a budget\n{command}\npython search.py --help\n" in joined


def test_help_is_grouped_and_states_defaults(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        search_args("--help")
    text = capsys.readouterr().out
    groups = ("the run", "search space and data", "search", "random search", "evolution", "budget")
    assert all(f"\n{group}:\n" in text for group in groups)
    files = {"config", "checkpoint", "init_from", "oracle", "lookup_table", "tracker"}
    for action in make_parser(SearchConfig, "")._actions:
        if action.dest in {"help", "widths", *files}:
            continue
        block = text.split(f"  {action.option_strings[0]}", 1)[1].split("\n  --", 1)[0]
        assert "default" in block, action.dest


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--limit", "params"), "'params' is not METRIC=VALUE"),
        (("--limit", "flops=1", "--target-hc", "0.3"), "limited by --target-hc and --min-hc"),
        (("--limit", "watts=1"), "the metric is unknown"),
        (("--limit", "params=6000"), r"did you mean 0.006 M params\?"),
        (("--target-hc", "300000"), r"did you mean 0.3 M MACs\?"),
    ],
)
def test_limits_that_are_refused(
    flags: tuple, says: str, tiny_table: LookupTable, capsys: pytest.CaptureFixture
) -> None:
    """By argparse, which prints why, or by what the space costs."""
    with pytest.raises((SystemExit, ValueError)) as stopped:
        config = search_config(*flags)
        config.budget.resolve(tiny_table, config.typed).limits(tiny_table)
    assert re.search(says, capsys.readouterr().err or str(stopped.value))


def test_limits_of_files_and_of_the_command_line(tmp_path: Path, tiny_table: LookupTable) -> None:
    """The last of a metric wins; one of --info-metric takes the recipe's median's place."""
    file = tmp_path / "c.yaml"
    file.write_text("limit: [params=50%, flops=90%]\n")
    config = search_config("--config", str(file), "--limit", "params=60%", "--limit", "latency=3")
    assert config.budget.limit == ("params=60%", "flops=90%", "latency=3")
    assert sorted(config.metrics) == ["flops", "latency", "params"]
    budget = config.budget.resolve(tiny_table, config.typed)
    assert budget.limit == ("params=60%", "latency=3")
    assert budget.target_hc == int(0.9 * tiny_table.range("flops")[1]) / 1e6
    config = search_config()
    budget = config.budget.resolve(tiny_table, config.typed)
    assert budget.target_hc == BudgetCounts(tiny_table, "flops").median / 1e6


@pytest.mark.parametrize(
    "ours, theirs", [("search", "train_supernet"), ("train_supernet", "search")]
)
def test_a_run_of_another_command_is_not_resumed(ours: str, theirs: str, tmp_path: Path) -> None:
    kinds = {"search": SearchConfig, "train_supernet": TrainSupernetConfig}
    write_config(tmp_path / "config.yaml", load_config(kinds[theirs], "", []))
    words = ["--resume", "--title", tmp_path.name, "--run-dir", str(tmp_path.parent)]
    says = f"is a run of {theirs}.py, not of {ours}.py; resume it by .*--run-dir"
    with pytest.raises(ValueError, match=says):
        load_config(kinds[ours], "", words)


def test_a_refused_change_of_a_run_names_the_way_round(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    config = search_config("--search-strategy", "random", "--target-hc", "5", "--epochs", "3")
    write_config(folder / "config.yaml", config)
    flags = ("--title", "t", "--run-dir", str(tmp_path), "--resume", "--target-hc")
    assert search_config(*flags, "5").budget.target_hc == 5
    with pytest.raises(ValueError, match=r"differs .*\(5.0\)[^:]*run$"):
        search_config(*flags, "4")
    (folder / "supernet.pt").touch()
    with pytest.raises(ValueError, match=f"--checkpoint {folder / 'supernet.pt'}"):
        search_config(*flags, "4")


def test_a_resumed_run_keeps_what_was_worked_out(tmp_path: Path) -> None:
    """A word that stands for it changes nothing; a file that lacks a recipe's flag says so."""
    (tmp_path / "t").mkdir()
    file = tmp_path / "t" / "config.yaml"
    first = ("--search-strategy", "gradient", "--sample-strategy", "binary", "--target-hc", "5")
    write_config(file, search_config(*first))
    again = ("--title", "t", "--run-dir", str(tmp_path), "--resume")
    config = search_config(*again, "--target-hc", "median", "--sample-strategy", "differentiable")
    assert (config.budget.target_hc, config.sampling.sample_strategy) == (5, "binary")
    with pytest.raises(ValueError, match="--search-strategy differentiable differs"):
        write_config(file, search_config("--target-hc", "5"))
        search_config(*again, "--search-strategy", "differentiable")
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({k: v for k, v in content.items() if k != "grad-clip"}))
    assert search_config(*again).training.epochs == content["epochs"]
    (tmp_path / "t").rename(tmp_path / "median")
    moved = ("--title", "median", *again[2:])
    assert search_config(*moved).run.title == "median"
    (tmp_path / "median").rename(tmp_path / "t")
    for key in ("epochs", "calibration-batches"):
        file.write_text(yaml.safe_dump({k: v for k, v in content.items() if k != key}))
        with pytest.raises(ValueError, match=f"t/config.yaml: key '{key}' is missing"):
            search_config(*again)
    file.write_text("")
    with pytest.raises(ValueError, match="is missing"):
        search_config(*again)
