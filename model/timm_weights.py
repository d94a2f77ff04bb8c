"""Weights of timm's networks (https://github.com/huggingface/pytorch-image-models) in ours."""

from __future__ import annotations

import torch
from torch import nn

from model.architecture import load_architecture
from model.blocks import inner_slice
from model.subnet import Subnet
from model.supernet import Supernet

PREFIX = "timm:"
NETWORKS = {  # timm's name -> the published architecture of the same structure
    "fbnetc_100": "fbnet_c",
    "spnasnet_100": "spnasnet_100",
    "mobilenetv2_100": "mobilenetv2_100",
}


def timm_network(name: str) -> nn.Module:
    """Return timm's pretrained network, downloaded or from its cache.

    Raises:
        ValueError: timm is not installed, the name is not in NETWORKS, or there is no download.
    """
    if name not in NETWORKS:
        raise ValueError(f"{PREFIX}{name}: only {', '.join(NETWORKS)} have a structure of ours")
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"{PREFIX}{name} needs timm: pip install timm") from error
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # the network's and the hub's own kinds
        raise ValueError(f"{PREFIX}{name} could not be downloaded: {error}") from error


@torch.no_grad()
def copy_timm(net: Subnet, theirs: nn.Module, name: str) -> None:
    """Copy a timm network's weights, entry by entry in the order of the layers, in place.

    Our batch norms can have another epsilon; in eval mode the function is the same, as the
    difference goes into the running variances. A classifier of another number of classes stays as
    it is.

    Raises:
        ValueError: the structures differ; names the first entry that does not fit.
    """
    own, other = net.state_dict(), list(theirs.state_dict().items())
    if len(own) != len(other):
        raise ValueError(f"{PREFIX}{name} has {len(other)} tensors, this network {len(own)}")
    for (key, mine), (their_key, tensor) in zip(own.items(), other, strict=True):
        if key.startswith("head.classifier.") and mine.shape != tensor.shape:
            continue
        if key.split(".")[-1] != their_key.split(".")[-1] or mine.shape != tensor.shape:
            raise ValueError(
                f"{PREFIX}{name} is another structure: {key} {list(mine.shape)} would come from "
                f"{their_key} {list(tensor.shape)}; take --arch {NETWORKS.get(name, name)}"
            )
        mine.copy_(tensor)
    norms, their_norms = (
        [m for m in x.modules() if isinstance(m, nn.BatchNorm2d)] for x in (net, theirs)
    )
    for norm, their_norm in zip(norms, their_norms, strict=True):
        assert norm.running_var is not None
        norm.running_var.add_(their_norm.eps - norm.eps)  # var + eps stays what theirs is


@torch.no_grad()
def start_supernet(supernet: Supernet, theirs: nn.Module, name: str) -> None:
    """Start a supernet from a timm network: its path, and what other choices share with it.

    Shared are the first channels and the inner kernels, as in `inner_slice`; where the network
    skips a layer, the choices stay as they are.

    Raises:
        ValueError: the network is none of the supernet's.
    """
    space = supernet.space
    own, architecture = load_architecture(NETWORKS[name], num_classes=space.num_classes)
    try:
        space.encode(own.decode(architecture))  # raises where the space lacks a choice
        same = own.widths == space.widths and own.style == space.style
    except ValueError:
        same = False
    if not same:
        raise ValueError(
            f"{PREFIX}{name} is no network of {space.name}: it is one of {own.name} with --widths "
            f"{','.join(map(str, own.widths))}"
        )
    net = Subnet(own, architecture)
    copy_timm(net, theirs, name)
    for i, source in enumerate(net.layers):
        for choice in range(len(space.layers[i].choices)):
            _copy_shared(source, supernet.choice_module(i, choice))
    for part in ("stem", "first", "head"):
        _copy_shared(net.get_submodule(part), supernet.get_submodule(part))


def _copy_shared(source: nn.Module, target: nn.Module) -> None:
    tensors = target.state_dict()
    for key, tensor in source.state_dict().items():
        if key in tensors:
            shape = torch.Size(map(min, tensor.shape, tensors[key].shape))  # what both have
            inner_slice(tensors[key], shape).copy_(inner_slice(tensor, shape))
