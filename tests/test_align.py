"""The aligned start: what the choices of a layer compute at first."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Main
from torch import Tensor

import train_supernet
from model import Supernet, build_supernet, load_space, zero_residuals
from model.align import align_choices


def aligned(space: str) -> Supernet:
    torch.manual_seed(0)
    supernet = build_supernet(load_space(space, 8, 10)).double()
    align_choices(supernet)
    return supernet.train()


def outputs(supernet: Supernet, layer: int) -> dict[str, Tensor]:
    """Run each choice of a layer on the same 64 inputs, as ReLU leaves them for SPOS."""
    spec = supernet.space.layers[layer]
    x = torch.randn(64, spec.in_chs, 4, 4, dtype=torch.float64)
    x = x.relu() if supernet.space.name == "spos" else x
    with torch.no_grad():
        return {name: supernet.run_layer(x, layer, c) for c, name in enumerate(spec.choices)}


def correlation(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.flatten(), b.flatten())[0, 1])


def test_all_paths_of_kernels_expansions_and_skips_are_one_network() -> None:
    supernet = aligned("proxylessnas")
    zero_residuals(supernet)
    rng = np.random.default_rng(0)
    images = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        logits = [supernet(images, rng.integers(supernet.space.num_choices)) for _ in range(4)]
    assert logits[0].std() > 0.01
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0])


def test_groups_are_undone_and_expansion_passes_channels_on() -> None:
    """FBNet: e1 with and without groups are equal, so are 3 and 6; the two kinds are near."""
    layer = 1  # 16 to 24 channels: no residual, no skip
    found = outputs(aligned("fbnet"), layer)
    kinds = ["k3_e1", "k3_e1_g2", "k5_e1", "k5_e1_g2"], ["k3_e3", "k3_e6", "k5_e3", "k5_e6"]
    for names in kinds:
        for a, b in itertools.pairwise(names):
            torch.testing.assert_close(found[a], found[b])
    assert 0.6 < correlation(found["k3_e1"], found["k3_e3"]) < 1
    torch.manual_seed(0)
    plain = outputs(build_supernet(load_space("fbnet", 8, 10)).double().train(), layer)
    assert abs(correlation(plain["k3_e1"], plain["k3_e3"])) < 0.2


@pytest.mark.parametrize(("layer", "nearness"), [(1, 0.95), (4, 0.6)])  # 4 strides
def test_shuffle_blocks_are_equal_and_xception_is_near(layer: int, nearness: float) -> None:
    found = outputs(aligned("spos"), layer)
    torch.testing.assert_close(found["shuffle_k5"], found["shuffle_k3"])
    torch.testing.assert_close(found["shuffle_k7"], found["shuffle_k3"])
    half = found["xception"].shape[1] // 2  # the others pass, or come from the projection
    near = correlation(found["xception"][:, half:], found["shuffle_k3"][:, half:])
    assert near > nearness


def test_the_smallest_block_keeps_hes_scale() -> None:
    """https://arxiv.org/abs/1502.01852, equation 14 with the 9 taps of a depthwise filter."""
    smallest = aligned("proxylessnas").choice_module(1, 0).depthwise.conv.weight
    assert smallest.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)


def test_other_spaces_align_as_far_as_they_can(tmp_path: Path) -> None:
    """A larger kernel without expansion, xception beside large kernels, blocks without a conv."""
    file = tmp_path / "odd.yaml"
    file.write_text(
        "extends: fbnet\nname: odd\nchoices: [k5_e1, k3_e3, k5_e3, shuffle_k5, xception, skip]\n"
    )
    found = outputs(aligned(str(file)), 2)  # 24 channels throughout
    torch.testing.assert_close(found["k5_e3"], found["k3_e3"])
    assert all(out.isfinite().all() for out in found.values())


def test_what_is_zero_at_first_learns() -> None:
    supernet = aligned("proxylessnas")
    k7, layer = 5, 1  # k7_e6
    path = np.where(supernet.space.num_choices > k7, k7, 0)
    images = torch.randn(8, 3, 8, 8, dtype=torch.float64)
    supernet(images, path).square().sum().backward()
    block = supernet.choice_module(layer, k7)
    taps, project = block.depthwise.conv.weight, block.project.conv.weight
    assert taps[:72, 0, 0].abs().max() == 0 < taps.grad[:72, 0, 0].abs().max()
    assert project[:, 72:].abs().max() == 0 < project.grad[:, 72:].abs().max()


def test_random_paths_of_fbnet_learn_digits_in_two_epochs(main: Main, tmp_path: Path) -> None:
    """From independent weights 40 epochs give 12 %; guessing gives 10 %."""
    main(train_supernet, "--search-space", "fbnet", "--epochs", 2, "--title", "t")
    with (tmp_path / "runs" / "t" / "training.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["top1"]) > 30
