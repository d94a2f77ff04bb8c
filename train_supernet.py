"""Train a supernet alone.

python train_supernet.py                                  # proxylessnas on the embedded digits
python train_supernet.py --search-space fbnet --dataset cifar10 --title fbnet_c10
python train_supernet.py --sample-strategy gumbel --target-hc 5 --hc-weight 0.5
python train_supernet.py --title fbnet_c10 --resume       # go on after an interruption
torchrun --nproc_per_node 4 train_supernet.py --dataset cifar10  # see docs/scaling.md
python search.py --checkpoint runs/fbnet_c10/supernet.pt  # search it
"""

from __future__ import annotations

from config_file.arg_config.supernet_config import supernet_parser
from utils.startup import answer_help, wait_without_spinning

if __name__ == "__main__":  # before the imports that take seconds
    answer_help(supernet_parser, __doc__)
    wait_without_spinning()

import sys
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from config_file.arg_config.layers import config_values, parse, unused_flags, write_config
from config_file.arg_config.sampling_config import DIFFERENTIABLE, idle_groups, resolve_sampling
from lookup_table import BudgetCounts
from model import count_params
from supernet import (
    build_costs,
    load_inputs,
    new_supernet,
    resolve_budget,
    save_costs,
    save_splits,
    set_threads,
    train,
)
from utils.device import pick_device, seed_everything, tune_malloc
from utils.errors import user_errors
from utils.plan import TRAINING_FILES, check_plan, plan_text, training_rows
from utils.run_folder import check_run_folder, log, make_run_folder, start_log
from utils.threads import threads_text


@user_errors
def main() -> None:
    start_log()
    parser = supernet_parser(__doc__)
    args = parse(parser, sys.argv[1:])
    start_log(quiet=args.quiet)
    check_plan(args)
    check_run_folder(args.run_dir, args.title, args.resume)
    tune_malloc()
    device = pick_device(args.device)
    seed_everything(args.random_seed)
    splits, space = load_inputs(args, device)
    resolve_sampling(args, space)
    budget = None
    if args.sample_in_budget or args.sample_strategy in DIFFERENTIABLE:
        table = build_costs(args, space, device)
        budget = resolve_budget(args, BudgetCounts(table, args.info_metric))
    supernet = new_supernet(args, space, device)
    if args.dry_run:
        rows = training_rows(
            args.epochs,
            len(splits.train),
            splits.train.batch_size,
            splits.train.num_images,
            count_params(supernet),
        )
        rows["files"] = f"{args.run_dir}/{args.title or '<title>'}/: {TRAINING_FILES}"
        print(plan_text(f"supernet of {space.name} on {args.dataset}", rows))
        return

    set_threads(args, supernet, space.num_choices // 2)
    name = f"supernet_{Path(args.search_space).stem}_{args.dataset}"
    folder = make_run_folder(args.run_dir, args.title, args.resume, name)
    start_log(folder, quiet=args.quiet)
    if budget is not None:
        save_costs(args, folder, space, table)
    config = config_values(parser, args)
    if not args.resume:
        write_config(folder / "config.yaml", config)
    save_splits(folder, splits)
    log.info(f"run folder {folder}, device {device}{threads_text(device)}")
    idle = idle_groups(args) | ({"budget"} if budget is None else set())
    if unused := unused_flags(parser, sys.argv[1:], idle):
        log.info(f"note: without effect in this run: {', '.join(unused)}")
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        path = folder / "supernet.pt"
        train(supernet, splits.train, args, config, path, writer, splits.architecture, budget)
    log.info(f"search it: python search.py --checkpoint {folder / 'supernet.pt'}")


if __name__ == "__main__":
    main()
