"""Where flag values come from, and every flag's name and default."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from config_file.arg_config.layers import RECIPES, config_values, parse, write_config
from config_file.arg_config.sampling_config import SAMPLER_SECTIONS
from config_file.arg_config.search_config import search_parser
from data import DATASETS


def search_args(*flags: str):
    return parse(search_parser("search"), flags)


def test_names_and_defaults_of_the_issue() -> None:
    args = search_args()
    expected = {
        "search_strategy": "evolution",
        "search_space": "proxylessnas",
        "sample_strategy": None,  # uniform, or what the search strategy needs: resolve_sampling
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
    for name in (
        "data_path",
        "epochs",
        "batch_size",
        "optimizer",
        "lr",
        "momentum",
        "weight_decay",
        "lr_scheduler",
        "decay_step",
        "decay_ratio",
        "warmup_epochs",
        "label_smoothing",
        "grad_clip",
        "random_seed",
        "num_workers",
        "calibration_batches",
    ):
        assert hasattr(args, name), name


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_recipe_sets_every_flag_that_has_no_default(dataset: str) -> None:
    args = search_args("--dataset", dataset)
    may_be_none = {"title", "config", "widths", "data_path", "checkpoint", "min_hc"}
    may_be_none |= {"sample_strategy", "oracle", "lookup_table", "a_warmup_epochs", "init_from"}
    may_be_none |= {"hc_weight", "temperature_decay"}  # resolve_sampling
    assert {k for k, v in vars(args).items() if v is None} == may_be_none
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
    assert args.widths == [8] * 8 + [64]
    assert args.epochs == yaml.safe_load((RECIPES / "digits.yaml").read_text())["epochs"]


def test_a_file_holds_settings_per_sampler(tmp_path: Path) -> None:
    """default < recipe < its sampler's < file < its sampler's < command line."""
    recipe = yaml.safe_load((RECIPES / "digits.yaml").read_text())
    recipe |= {"a-lr": 0.1, "epochs": 10}
    recipe["sampler"] = {
        "softmax": {"a-lr": 0.2, "epochs": 11, "hc-loss": "hinge"},
        "threshold": {"a-lr": 0.3},
        "gumbel-hard": {"a-lr": 0.4},
    }
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(recipe))

    def args_of(*flags: str):
        return parse(search_parser(""), flags, (tmp_path,))

    args = args_of("--search-strategy", "gradient")  # softmax, as resolve_sampling finds later
    assert (args.a_lr, args.epochs, args.hc_loss) == (0.2, 11, "hinge")
    assert args_of().a_lr == 0.1 and args_of("--sample-strategy", "gumbel").a_lr == 0.1
    assert args_of("--search-strategy", "gradient", "--search-space", "singlepath").a_lr == 0.3
    assert args_of("--sample-strategy", "gumbel", "--gumbel-hard").a_lr == 0.4
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 12\nsampler:\n  softmax: {hc-loss: abs}\n  gumbel: {epochs: 13}\n")
    args = args_of("--search-strategy", "gradient", "--config", str(file), "--a-lr", "0.5")
    assert (args.a_lr, args.epochs, args.hc_loss) == (0.5, 12, "abs")
    assert args_of("--sample-strategy", "gumbel", "--config", str(file)).epochs == 13
    write_config(tmp_path / "config.yaml", config_values(search_parser(""), args))
    again = args_of("--config", str(tmp_path / "config.yaml"))
    assert {**vars(again), "config": None} == {**vars(args), "config": None}


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


def test_config_yaml_gives_the_same_flags_back(tmp_path: Path) -> None:
    parser = search_parser("search")
    args = search_args("--lr", "1e-3", "--min-hc", "3.25", "--widths", "8,8,8,8,8,8,8,8,64")
    write_config(tmp_path / "config.yaml", config_values(parser, args))
    again = search_args("--config", str(tmp_path / "config.yaml"))
    assert {**vars(again), "config": None} == vars(args)


def test_help_is_grouped_and_states_defaults(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        search_args("--help")
    text = capsys.readouterr().out
    groups = ("the run", "search space and data", "search", "random search", "evolution", "budget")
    assert all(f"\n{group}:\n" in text for group in groups)
    files = {"config", "checkpoint", "init_from", "oracle", "lookup_table"}
    for action in search_parser("")._actions:
        if action.dest in {"help", "widths", *files}:
            continue
        block = text.split(f"  {action.option_strings[0]}", 1)[1].split("\n  --", 1)[0]
        assert "default" in block, action.dest
