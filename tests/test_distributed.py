"""Several processes on one machine (gloo, loopback) against one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from conftest import ROOT, TINY, load_splits
from helpers import batches, evolution, whole_budget
from kills import ARCHITECTURE
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import search
import train_subnet
from config_file.arg_config.sources import load_config
from config_file.arg_config.subnet_config import SubnetConfig
from lookup_table.builder import load_table
from model import SearchSpace, Subnet, build_supernet, load_space, small_maps
from sampler import UniformSampler
from search_strategy.evaluator import Evaluator
from search_strategy.history import History, run_search
from search_strategy.scores import ScoreLog, SharedScores
from utils import distributed
from utils.device import pick_device
from utils.optim import build_optimizer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


def _child(rank: int, size: int, port: int, work: Callable, folder: Path) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({k: str(v) for k, v in place.items()}, MASTER_ADDR="127.0.0.1")
    tempfile.tempdir = str(folder)  # a forked process ends without atexit, so nothing else tidies
    pick_device("cpu")
    torch.save(work(), folder / f"{rank}.pt")
    dist.barrier()


def on_ranks(size: int, work: Callable[[], object], folder: Path) -> list:
    """What `work` returns on each of `size` forked ranks."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_child, (size, port, work, folder), size, start_method="fork")
    return [torch.load(folder / f"{i}.pt", weights_only=False) for i in range(size)]


def some_steps(space: SearchSpace) -> dict:
    """Three training steps of a supernet whose batch norms use their running statistics."""
    torch.manual_seed(0)
    supernet = build_supernet(space).eval()
    parameters = list(supernet.parameters())
    optimizer = build_optimizer("sgd", parameters, 0.05, 0.9, 1e-3)
    sampler = UniformSampler(space.num_choices, np.random.default_rng(0))
    check, paths = distributed.PathCheck(every=2), []
    for images, labels in batches(3, 8, 0)[:3]:
        part = len(images) // distributed.world_size()
        mine = slice(distributed.rank() * part, (distributed.rank() + 1) * part)
        optimizer.zero_grad(set_to_none=True)
        (path,) = sampler.step_paths()
        check(path)
        loss = nn.functional.cross_entropy(supernet(images[mine], path), labels[mine])
        loss.backward()
        used = sum(p.grad is not None for p in parameters)
        (loss,) = distributed.average_gradients(parameters, loss)
        assert used == sum(p.grad is not None for p in parameters) < len(parameters)
        gradients = {n: p.grad for n, p in supernet.named_parameters() if p.grad is not None}
        optimizer.step()
        paths.append(path.tolist())
    return {
        "paths": paths,
        "loss": loss,
        "gradients": {n: g.clone() for n, g in gradients.items()},
        "weights": {n: p.detach().clone() for n, p in supernet.named_parameters()},
    }


@pytest.mark.parametrize("size", [2, 4])
def test_gradients_equal_one_process_on_the_whole_batch(
    tiny: SearchSpace, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 up to 1e-6, as are the weights after three steps; batch norms aside, whose

    statistics without --sync-bn are each rank's own. The one process has PyTorch's convolutions.
    """
    with monkeypatch.context() as patch:
        patch.setattr(small_maps, "LARGEST_MAP", 0)
        alone = some_steps(tiny)
    for result in on_ranks(size, lambda: some_steps(tiny), tmp_path):
        assert result["paths"] == alone["paths"]
        assert result["loss"].item() == pytest.approx(alone["loss"].item(), abs=1e-6)
        for kind in ("gradients", "weights"):
            assert result[kind].keys() == alone[kind].keys()
            for name, value in alone[kind].items():
                assert (result[kind][name] - value).abs().max() < 1e-6, name


def trained_subnet(space: SearchSpace, folder: Path) -> dict[str, torch.Tensor]:
    """Weights after an epoch of train_subnet.py's own loop, batch norms frozen."""
    torch.manual_seed(0)
    net = Subnet(space, np.ones(space.num_layers, dtype=int))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module  # stays in eval mode
    place = {"rank": distributed.rank(), "world_size": distributed.world_size()}
    splits = load_splits("digits", None, 8, 96, 450, 0.8, 0, torch.device("cpu"), **place)
    folder.mkdir(exist_ok=True)
    (folder / "a.yaml").write_text(yaml.safe_dump(ARCHITECTURE))
    flags = f"--arch {folder / 'a.yaml'} --epochs 1 --optimizer sgd --lr 0.05 --grad-clip 2"
    config = load_config(SubnetConfig, "", [*flags.split(), "--title", "t"])
    with SummaryWriter(str(folder)) as writer:
        objective = train_subnet.build_objective(config, 10, splits.train.device)
        train_subnet.train(net, splits, config, {}, folder, writer, objective)
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def test_a_subnet_on_two_ranks_is_that_of_one_on_the_whole_batch(
    tiny: SearchSpace, tmp_path: Path
) -> None:
    """Augmented batches, clipping, momentum and the schedule; batch norms aside, as above."""
    alone = trained_subnet(tiny, tmp_path / "alone")

    def work() -> dict[str, torch.Tensor]:
        return trained_subnet(tiny, tmp_path / f"rank{distributed.rank()}")

    for weights in on_ranks(2, work, tmp_path / "two"):
        assert weights.keys() == alone.keys()
        for name, value in alone.items():
            assert (weights[name] - value).abs().max() < 1e-5, name  # eleven steps


def test_the_same_history_with_1_2_and_4_ranks(tiny: SearchSpace, tmp_path: Path) -> None:
    """Rank 0 is the strategy, candidates are spread, and one rank may have nothing to do."""
    table = load_table(tiny)
    supernet = build_supernet(tiny)
    data = batches(3, 8, 1)

    def searched() -> tuple[str, int]:
        evaluator = Evaluator(supernet, [data[0][0]], data)
        mine, score = [], evaluator.score
        evaluator.score = lambda nets, *rest: mine.extend(nets) or score(nets, *rest)
        shared = SharedScores(evaluator)
        history = History(tiny, table)
        if not shared.run_worker():
            scores = ScoreLog(shared, None, tiny)
            run_search(evolution(whole_budget(table), 4, 9, 3), scores, history)
            scores(history.architectures[:3])  # known: nobody is asked
            shared.close()
        return history.to_csv(), len(mine)

    alone, number = searched()
    assert number == 36
    for size in (2, 4):
        results = on_ranks(size, searched, tmp_path / str(size))
        assert results[0][0] == alone
        assert sum(n for _, n in results) == number
        assert max(n for _, n in results) <= 4 * -(-9 // size)


def test_synchronised_batch_norms_where_they_cannot_be(tiny: SearchSpace) -> None:
    """A flag that would be without effect is an error."""
    with pytest.raises(ValueError, match="--sync-bn needs GPUs"):
        distributed.synchronise_batch_norms(build_supernet(tiny), torch.device("cpu"))
    superkernel = build_supernet(load_space("singlepath", 8, 10))
    with pytest.raises(ValueError, match="superkernel"):
        distributed.synchronise_batch_norms(superkernel, torch.device("cuda"))
    converted = distributed.synchronise_batch_norms(build_supernet(tiny), torch.device("cuda"))
    plain = build_supernet(tiny)
    assert converted.state_dict().keys() == plain.state_dict().keys()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in converted.modules())


def test_ranks_that_drew_different_paths_stop(tmp_path: Path) -> None:
    def work() -> str:
        check = distributed.PathCheck(every=2)
        check(np.array([1, 2]))
        with pytest.raises(ValueError, match="drew different paths") as error:
            check(np.array([1, distributed.rank()]))
        return str(error.value)

    assert all("fingerprints" in line for line in on_ranks(2, work, tmp_path))


def test_commands_under_torchrun(tmp_path: Path) -> None:
    """Train on two ranks, search on two: one folder, written by rank 0, no file of another rank."""
    small = ["--search-space", TINY, "--random-seed", 3, "--eval-batch-size", 90]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc_per_node", 2]
    train = ["--title", "t", "--epochs", 1, "--batch-size", 256]
    find = ["--title", "s", "--checkpoint", "runs/t/supernet.pt", "--generation-num", 2]
    find += ["--population", 8, "--parent-num", 2, "--no-random-control"]
    outputs = []
    for script, flags in (("train_supernet.py", train), ("search.py", find)):
        words = [*torchrun, ROOT / script, *small, *flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "tmp")}
        (tmp_path / "tmp").mkdir(exist_ok=True)
        done = subprocess.run(
            list(map(str, words)), cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        outputs.append(done.stdout)
    assert outputs[0].count("run folder") == outputs[1].count("run folder") == 1
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["s", "t"]
    history = (tmp_path / "runs" / "s" / "history.csv").read_bytes()
    assert history.count(b"\n") == 17
    own = [*find[4:], "--title", "own", *train[2:], "--supernet-seeds", 2]
    for more in ([], ["--resume"]):  # rank 1 has no file of the supernet that it goes on with
        words = [*torchrun, ROOT / "search.py", *small, *own, *more]
        if more:
            (tmp_path / "runs" / "own" / "best_architecture.yaml").unlink()
        environment["ONESHOT_NAS_TIMEOUT"] = "20"  # less than a search on another supernet takes
        done = subprocess.run(
            list(map(str, words)), cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "over 2 supernets" in done.stdout

    monkey = pytest.MonkeyPatch()
    monkey.chdir(tmp_path)
    find[1] = "alone"
    monkey.setattr(sys, "argv", ["search.py", *map(str, small + find)])
    search.main()
    monkey.undo()
    assert (tmp_path / "runs" / "alone" / "history.csv").read_bytes() == history
