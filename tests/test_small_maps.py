"""Convolutions of small maps equal PyTorch's own, whatever runs them."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model import SearchSpace, Subnet, small_maps
from model.blocks import BlockStyle, TrainingStyle, UncountedBatchNorm2d, build_block
from model.export import ONNX_PACKAGES, onnx_program
from model.small_maps import LARGEST_MAP, InPlaceReLU6, SmallMapConv2d, conv2d

LAYOUTS = [torch.contiguous_format, torch.channels_last]
MAPS = [(n, n) for n in range(1, 7)] + [(1, 3), (2, 5), (6, 1), (8, 7), (9, 9), (4, 16)]
CHS, BATCH = 6, 8  # of this batch on, the weight gradient is a product on all small maps


@pytest.fixture(autouse=True)
def avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    """All products, also those that a core without AVX-512 has no use for."""
    monkeypatch.setattr(small_maps, "AVX512", True)


def random(*shape: int, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """A double leaf with a gradient."""
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout)
    return x.requires_grad_()


def gradients(y: Tensor, *inputs: Tensor) -> list[Tensor]:
    """The output and, for one fixed output gradient, the gradients of the inputs."""
    torch.manual_seed(1)
    return [y, *torch.autograd.grad(y, inputs, torch.randn(y.shape, dtype=y.dtype))]


def assert_close(ours: list[Tensor], stock: list[Tensor], tolerance: float) -> None:
    for a, b in zip(ours, stock, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("kernel", "stride", "size"), list(itertools.product((1, 3, 5, 7), (1, 2), MAPS)), ids=str
)
def test_depthwise_equals_stock(
    kernel: int, stride: int, size: tuple[int, int], layout: torch.memory_format
) -> None:
    x, weight = random(BATCH, CHS, *size, layout=layout), random(CHS, 1, kernel, kernel)
    ours = conv2d(x, weight, None, stride, kernel // 2, CHS)
    stock = F.conv2d(x, weight, None, stride, kernel // 2, groups=CHS)
    assert_close(gradients(ours, x, weight), gradients(stock, x, weight), 1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", MAPS)
def test_pointwise_equals_stock(size: tuple[int, int], layout: torch.memory_format) -> None:
    inputs = random(BATCH, CHS, *size, layout=layout), random(10, CHS, 1, 1), random(10)
    assert_close(gradients(conv2d(*inputs), *inputs), gradients(F.conv2d(*inputs), *inputs), 1e-12)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_slices_of_a_superkernel_and_biases(size: int) -> None:
    """Sliced channels and taps, as superkernels pass them, and a bias, as folded convs do."""
    x, whole = random(BATCH, CHS, size, size), random(2 * CHS, 1, 7, 7)
    part = whole[:CHS, :, 1:6, 1:6]
    for b in (None, random(CHS)):
        ours, stock = conv2d(x, part, b, 1, 2, CHS), F.conv2d(x, part, b, 1, 2, groups=CHS)
        assert_close(gradients(ours, x, whole), gradients(stock, x, whole), 1e-12)


def test_where_the_weight_gradient_is_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_product(batch: int, size: int, kernel: int) -> bool:
        x, weight = random(batch, CHS, size, size), random(CHS, 1, kernel, kernel)
        name = conv2d(x, weight, None, 1, kernel // 2, CHS).grad_fn.name()
        assert name in ("ConvolutionBackward0", "_DepthwiseConvBackward")
        return name == "_DepthwiseConvBackward"

    assert [is_product(*x) for x in ((7, 8, 7), (8, 8, 7), (8, 8, 5))] == [False, True, True]
    assert [is_product(*x) for x in ((1, 4, 7), (2, 4, 7), (1, 2, 7))] == [False, True, True]
    assert [is_product(32, size, 3) for size in (2, 3)] == [True, False]
    monkeypatch.setattr(small_maps, "AVX512", False)
    assert [is_product(32, size, 7) for size in (6, 8)] == [True, True]
    assert [is_product(32, size, 5) for size in (4, 6, 7, 8)] == [True, True, False, False]
    assert [is_product(32, size, 3) for size in (2, 3)] == [True, False]


@pytest.mark.parametrize(
    "options",
    [{"padding": 1}, {"padding": 2, "dilation": 2}, {"padding": 2, "padding_mode": "circular"}],
)
def test_other_padding_than_same_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="SmallMapConv2d needs"):
        SmallMapConv2d(4, 4, 5, **options)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_second_derivatives(size: int) -> None:
    inputs = random(2, 2, size, size), random(2, 1, 5, 5)
    assert torch.autograd.gradgradcheck(lambda x, w: conv2d(x, w, None, 1, 2, 2), inputs)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_relu6_in_place_has_the_same_bits(checkpointed: bool) -> None:
    results = []
    for act in (nn.ReLU6(), InPlaceReLU6()):
        torch.manual_seed(0)
        block = nn.Sequential(nn.BatchNorm2d(5), act, nn.Conv2d(5, 4, 1))
        nn.init.constant_(block[0].bias, 3.0)
        nn.init.constant_(block[0].weight, 3.0)  # both bounds are met
        x = torch.randn(4, 5, 6, 6, requires_grad=True)
        y = checkpoint(block, x, use_reentrant=False) if checkpointed else block(x)
        results.append(gradients(y, x, *block.parameters()))
    for stock, ours in zip(*results, strict=True):
        assert torch.equal(stock, ours)
    x = torch.tensor([-1.0, 0.0, 3.0, 6.0, 7.0])
    assert torch.equal(InPlaceReLU6()(x), F.relu6(x))
    y = InPlaceReLU6(inplace=True)(x)  # as an evaluator makes it
    assert y is x and x.tolist() == [0, 0, 3, 6, 6]


def pair() -> tuple[nn.Module, nn.Module]:
    """The same block made of plain modules and of those for training."""
    styles = BlockStyle(), TrainingStyle()
    plain, fast = (build_block("k5_e3", 8, 8, 1, style).double() for style in styles)
    fast.load_state_dict(plain.state_dict())
    return plain, fast


@pytest.mark.parametrize("size", [1, 2, 4, LARGEST_MAP, LARGEST_MAP + 1])
def test_blocks_and_activation_checkpointing(size: int) -> None:
    plain, fast = pair()
    x = torch.randn(BATCH, 8, size, size, dtype=torch.float64)
    stock = gradients(plain(x), *plain.parameters())
    for y in (fast(x), checkpoint(fast, x, use_reentrant=False)):
        assert_close(gradients(y, *fast.parameters()), stock, 1e-9)


@pytest.mark.parametrize("size", [1, 4, LARGEST_MAP])
def test_autocast_has_the_numbers_of_plain_blocks(size: int) -> None:
    plain, fast = (block.float() for block in pair())
    x = torch.randn(BATCH, 8, size, size)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = plain(x), fast(x)
    stock, ours = (
        gradients(y, *net.parameters()) for y, net in zip(outputs, (plain, fast), strict=True)
    )
    assert_close(ours, stock, 1e-6)


@pytest.mark.parametrize("size", [1, 4])
def test_compiled_and_exported_graphs_have_plain_convolutions(size: int) -> None:
    plain, fast = pair()
    x = torch.randn(4, 8, size, size, dtype=torch.float64)
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(fast, backend=backend)
    stock = gradients(plain(x), *plain.parameters())
    assert_close(gradients(compiled(x), *compiled.parameters()), stock, 1e-9)
    program = torch.export.export(fast.eval(), (x,))
    for graph in (graphs[0].graph, program.graph):
        names = [str(node.target) for node in graph.nodes if node.op == "call_function"]
        assert sum("conv2d" in name for name in names) == 3
        assert not any(word in name for name in names for word in ("linear", "bmm", "matmul"))


def test_gpus_half_precision_and_autocast_use_the_stock_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On maps of one pixel, where all others make do with a product."""
    calls: list[str] = []
    monkeypatch.setattr(F, "conv2d", lambda x, *args, **options: calls.append(x.device.type))
    weight, x = torch.randn(8, 1, 5, 5), torch.randn(2, 8, 1, 1)
    conv2d(x, weight, None, 1, 2, 8)
    assert calls == []
    conv2d(x.to("meta"), weight.to("meta"), None, 1, 2, 8)
    conv2d(x.bfloat16(), weight.bfloat16(), None, 1, 2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        conv2d(x, weight, None, 1, 2, 8)
    assert calls == ["meta", "cpu", "cpu"]


def test_onnx_has_a_convolution_for_each(tiny: SearchSpace) -> None:
    for package in ONNX_PACKAGES:
        pytest.importorskip(package)
    net = Subnet(tiny, [1] * tiny.num_layers, tiny.training_style).eval()
    model = onnx_program(net, 8).model_proto
    kinds = Counter(node.op_type for node in model.graph.node)
    convs = [m for m in net.modules() if isinstance(m, SmallMapConv2d)]
    assert kinds["Conv"] == len(convs) > 10
    assert kinds["Gemm"] + kinds["MatMul"] == 1, "the classifier"


def test_only_networks_in_training_have_the_fast_modules(tiny: SearchSpace) -> None:
    """Tools that count or quantise by exact class must see PyTorch's own layers in a subnet."""
    kinds = []
    for style in (tiny.style, tiny.supernet_style):
        depthwise = build_block("k3_e6", 8, 8, 1, style).depthwise
        kinds.append((type(depthwise.conv), type(depthwise.bn)))
    assert kinds == [(nn.Conv2d, nn.BatchNorm2d), (SmallMapConv2d, UncountedBatchNorm2d)]
