"""Train a supernet alone.

python train_supernet.py                                  # proxylessnas on the embedded digits
python train_supernet.py --search-space fbnet --dataset cifar10 --title fbnet_c10
python train_supernet.py --sample-strategy gumbel --target-hc 5 --hc-weight 0.5
python train_supernet.py --title fbnet_c10 --resume       # go on after an interruption
torchrun --nproc_per_node 4 train_supernet.py --dataset cifar10  # see docs/scaling.md
python search.py --checkpoint runs/fbnet_c10/supernet.pt  # search it
"""

from __future__ import annotations

from config_file.arg_config.fields import answer_help
from config_file.arg_config.supernet_config import TrainSupernetConfig
from utils.startup import wait_without_spinning

if __name__ == "__main__":  # before the imports that take seconds
    answer_help(TrainSupernetConfig, __doc__)
    wait_without_spinning()

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.fields import changed
from config_file.arg_config.sources import load_config, write_config
from lookup_table import BudgetCounts
from model import count_params
from supernet import (
    build_costs,
    fit_to_data,
    load_inputs,
    new_supernet,
    resolve_budget,
    save_costs,
    save_splits,
    set_threads,
    train,
)
from utils.device import pick_device, seed_everything, tune_malloc
from utils.environment import note_environment
from utils.errors import user_errors
from utils.plan import TRAINING_FILES, plan_text, training_rows
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.threads import threads_text


@user_errors
def main() -> None:
    start_log()
    config = load_config(TrainSupernetConfig, __doc__)
    run = config.run
    start_log(quiet=run.quiet)
    check_run_folder(run.run_dir, run.title, run.resume)
    tune_malloc()
    device = pick_device(run.device)
    seed_everything(run.random_seed)
    splits, space = load_inputs(
        run, config.space, config.data, device, config.training.batch_size, config.augment
    )
    config = fit_to_data(config, splits)
    table = counts = None
    if config.needs_budget:
        table = build_costs(space, [config.budget.info_metric], config.latency, run, device)
        counts = BudgetCounts(table, config.budget.info_metric)
    config = config.resolve(space, counts)
    training = config.training
    budget = None if counts is None else resolve_budget(config.budget, counts)
    supernet = new_supernet(training, config.data, space, device, config.begun)
    if run.dry_run:
        rows = training_rows(
            training.epochs,
            len(splits.train),
            splits.train.batch_size,
            splits.train.num_images,
            count_params(supernet),
        )
        rows["files"] = f"{run.run_dir}/{run.title or '<title>'}/: {TRAINING_FILES}"
        print(plan_text(f"supernet of {space.name} on {config.data.dataset}", rows))
        return

    middle = space.num_choices // 2
    threads = set_threads(
        run.threads, supernet, training.batch_size, config.data.input_size, middle
    )
    config = changed(config, threads=threads)
    name = f"supernet_{Path(config.space.search_space).stem}_{config.data.dataset}"
    folder = make_run_folder(run.run_dir, run.title, run.resume, name)
    start_log(folder, quiet=run.quiet)
    note_environment(folder, device, run.config)
    if table is not None:
        config = save_costs(config, folder, space, table)
    if not run.resume:
        write_config(folder / "config.yaml", config)
    save_splits(folder, splits)
    log.info(f"run folder {folder}, device {device}{threads_text(device)}")
    if ignored := config.ignored_flags():
        log.info(f"note: without effect in this run: {', '.join(ignored)}")
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        path = folder / "supernet.pt"
        train(supernet, splits.train, config, path, writer, splits.architecture, budget)
    log.info(f"search it: python search.py --checkpoint {folder / 'supernet.pt'}")


if __name__ == "__main__":
    main()
