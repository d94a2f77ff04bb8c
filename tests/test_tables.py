"""Tables that ship, whether they fit a space, and tables of other projects."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import TINY, Main
from scipy.stats import spearmanr

from lookup_table import LookupTable
from lookup_table.builder import load_table
from lookup_table.importers import SINGLEPATH_REST, import_table
from lookup_table.tables import TABLE_DIR, shipped_tables
from lookup_table.user_table import list_tables, read_user_table, user_table_text
from model import SearchSpace, load_architecture, load_space


def read(name: str | Path, space: SearchSpace) -> LookupTable:
    return read_user_table(name, space, bare(space))


def bare(space: SearchSpace) -> LookupTable:
    return LookupTable({}, {}, space.num_choices)


def space_of(name: str, classes: int = 10) -> SearchSpace:
    spec = yaml.safe_load((TABLE_DIR / f"{name}.yaml").read_text())
    return load_space(spec["search_space"], spec["input_size"], classes)


@pytest.mark.parametrize("name", shipped_tables())
def test_shipped_tables_are_described_and_fit_their_space(name: str) -> None:
    space = space_of(name)
    table = read(name, space)
    source = table.sources["latency"]
    assert {"device", "source", "licence", "exactness"} <= source.keys()
    assert source["fixed_part"].endswith("classes")
    text = list_tables()
    assert f"\n{name}\n" in f"\n{text}"
    flat = " ".join(text.split())
    assert source["device"] in flat and source["source"] in flat
    assert max(len(line) for line in text.splitlines() if "pixel1_runtime" not in line) <= 80
    low, high = table.range("latency")
    assert f"{low / 1e6:,.3f} to {high / 1e6:,.3f} ms" in text


def test_published_latencies() -> None:
    """Of Single-Path NAS: 79 ms measured (arXiv 1904.02877, table 2); its table's sum is 80.4."""
    space, architecture = load_architecture("spnasnet_100")
    table = read("pixel1_singlepath", space)
    assert "fixed_part" not in table.sources["latency"]
    assert table.cost(architecture, "latency") / 1e6 == pytest.approx(80.4, abs=0.05)


def test_macs_do_not_rank_the_titan_at_batch_1(rng: np.random.Generator) -> None:
    """As published of 2,479 networks: Spearman 0.95 of MACs with a Pixel 3, 0.15 with a GPU."""
    space = space_of("pixel3")
    flops = load_table(space)
    codes = rng.integers(0, space.num_choices, size=(2000, space.num_layers))
    rho = {
        name: spearmanr(
            flops.cost(codes, "flops"),
            read(name, space).cost(codes, "latency"),
        ).statistic
        for name in ("pixel3", "titan_rtx_1")
    }
    assert rho["pixel3"] > 0.9 and abs(rho["titan_rtx_1"]) < 0.3


@pytest.mark.parametrize(
    ("space", "says"),
    [
        (("fbnet", 32, 10), "channels .*1504, here .*1984; it fits --search-space fbnet_hwnas"),
        (("proxylessnas", 32, 10), "searchable layers: 22, here 21"),
        (("fbnet_hwnas", 64, 10), "of input_size 32, this run of 64; fix --input-size"),
        (("fbnet", 32, 10, [16, 16, 24, 32, 64, 112, 184, 352, 1504]), "expansion 1: yes, here no"),
        (
            ("fbnet_hwnas", 32, 10, [16, 16, 24, 32, 64, 112, 184, 360, 1504]),
            "352,1504, here .*360",
        ),
    ],
)
def test_a_table_of_another_space_is_refused(space: tuple, says: str) -> None:
    wanted = load_space(*space)
    with pytest.raises(ValueError, match=says):
        read("pixel3", wanted)


def test_it_is_what_a_space_is_that_counts(tmp_path: Path) -> None:
    """A space of another name, with the same networks."""
    file = tmp_path / "mine.yaml"
    file.write_text("extends: fbnet\nexpand_e1: true\nlast: 1504\n")
    mine = load_space(file, 32, 10)
    table = read("pixel3", mine)
    saved = tmp_path / "saved.yaml"
    saved.write_text(user_table_text(mine, table, "latency"))
    again = read_user_table(saved, load_space("fbnet_hwnas", 32, 10), bare(mine))
    assert np.array_equal(again.costs["latency"], table.costs["latency"])
    assert again.sources["latency"]["fixed_part"] == "of 100 classes"


def test_an_unknown_table_is_refused(tiny: SearchSpace) -> None:
    for name, says in (("pixel4", "did you mean 'pixel3'"), ("no.yaml", "check the path")):
        with pytest.raises(ValueError, match=says):
            read(name, tiny)


def test_the_command(tmp_path: Path, lookup: Main) -> None:
    assert "licence:   Apache-2.0" in lookup("--list-tables")
    space = load_space("fbnet_hwnas", 32, 10)
    choices = space.decode(np.zeros(space.num_layers, dtype=int))
    spec = {"search_space": space.name, "input_size": 32, "num_classes": 10, "choices": choices}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(spec))
    flags = ("--arch", "a.yaml", "--lookup-table", "pixel3", "--memory", "int8")
    facts = json.loads(lookup(*flags))
    assert facts["latency"] > 3 and facts["latency_fixed_part"] == "of 100 classes"
    assert 0 < facts["peak_memory"] < facts["weights"]
    text = lookup("--arch", "a.yaml", "--lookup-table", "pixel1_singlepath", ok=False)
    assert "it fits --search-space singlepath --input-size 224" in text


def hw_nas_bench(space: SearchSpace, cost: Callable[[], object]) -> object:
    """A pickle's content as HW-NAS-Bench has it, of one space."""
    known = {}
    for la in space.layers:
        shape = f"H{la.in_size}_W{la.in_size}_Cin{la.in_chs}_Cout{la.out_chs}"
        for kernel in (3, 5):
            for expansion, groups in ((1, 1), (1, 2), (3, 1), (6, 1)):
                key = f"ConvBlock_{shape}_exp{expansion}_kernel{kernel}_stride{la.stride}"
                known[f"{key}_group{groups}"] = cost()
        known[f"Skip_{shape}_stride{la.stride}"] = 0.0
    known["ConvNorm_H32_W32_Cin3_Cout16_kernel3_stride1_group1"] = 1.0
    known["ConvNorm_H4_W4_Cin352_Cout1504_kernel1_stride1_group1"] = 2.0
    known["AvgP_H4_W4_Cin1504_Cout1504_kernel4_stride1"] = 0.5
    known["FC_Cin1504_Cout10"] = 0.25
    return {"nasbench201": {}, "fbnet": {"pixel3_latency": known, "fpga_energy": known}}


@pytest.mark.parametrize("numpy_numbers", [False, True])
def test_hw_nas_bench(tmp_path: Path, rng: np.random.Generator, numpy_numbers: bool) -> None:
    space, file = load_space("fbnet_hwnas", 32, 10), tmp_path / "hw.pickle"
    content = hw_nas_bench(space, rng.random if numpy_numbers else lambda: float(rng.random()))
    content["fbnet"]["pixel3_latency"]["FC_Cin1504_Cout10"] = np.float64(0.25)
    file.write_bytes(pickle.dumps(content, protocol=4))
    table, metric = import_table("hw_nas_bench", file, space, bare(space), "pixel3_latency")
    known = content["fbnet"]["pixel3_latency"]
    assert metric == "latency" and table.fixed["latency"] == 3_750_000
    layer = space.layers[5].choices.index("k5_e1_g2")
    key = "ConvBlock_H32_W32_Cin24_Cout32_exp1_kernel5_stride2_group2"
    assert table.costs["latency"][5, layer] == pytest.approx(1e6 * known[key], abs=1)
    table, metric = import_table("hw_nas_bench", file, space, bare(space), "fpga_energy")
    assert metric == "energy" and table.unit("energy") == "mJ"
    with pytest.raises(ValueError, match="--import-metric: pixel3_latency, fpga_energy"):
        import_table("hw_nas_bench", file, space, bare(space))


class Harmful:
    def __reduce__(self) -> tuple:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("form", "content", "says"),
    [
        ("hw_nas_bench", pickle.dumps({"fbnet": Harmful()}), r"it holds \w+\.system"),
        ("hw_nas_bench", pickle.dumps(np.array([Harmful()])), "not a pickle of plain values"),
        ("hw_nas_bench", pickle.dumps([1, 2]), "not HW-NAS-Bench's"),
        ("hw_nas_bench", pickle.dumps({"fbnet": {"energy": {}}}), "no entry 'ConvBlock_H32"),
        ("hw_nas_bench", b"a: 1", "not a pickle of plain values"),
        ("hw_nas_bench", b"", "not a pickle of plain values"),
        ("singlepath_json", b"{", "as JSON"),
        ("singlepath_json", b"[]", "layers '0' to '21'"),
        ("proxyless_lut", b"a: 1", "no table of ProxylessNAS"),
        ("proxyless_lut", b"Conv-input:1: 2", "has no entry"),
        ("nn_meter", b"", "take one of hw_nas_bench, proxyless_lut, singlepath_json"),
    ],
)
def test_a_wrong_file_gets_one_line_and_runs_nothing(
    tmp_path: Path, form: str, content: bytes, says: str
) -> None:
    (tmp_path / "f").write_bytes(content)
    space = load_space("fbnet_hwnas", 32, 10)
    with pytest.raises(ValueError, match=says) as error:
        import_table(form, tmp_path / "f", space, bare(space), "energy")
    assert "\n" not in str(error.value)


def proxyless_lut(space: SearchSpace, suffix: str) -> dict:
    """The keys of ProxylessNAS's table, of one space; the value names the block."""
    lut = {
        "Conv-input:224x224x3-output:112x112x32": {"mean": 1.0},
        f"expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0"
        f"{suffix}": {"mean": 2.0},
        "Conv_1-input:7x7x320-output:7x7x1280": {"mean": 3.0},
        "Logits-input:7x7x1280-output:1000": {"mean": 4.0},
    }
    for la in space.layers:
        for kernel in (3, 5, 7):
            for expansion in (3, 6):
                out = la.in_size // la.stride
                keeps = int(la.stride == 1 and la.in_chs == la.out_chs)
                key = f"expanded_conv-input:{la.in_size}x{la.in_size}x{la.in_chs}"
                key += f"-output:{out}x{out}x{la.out_chs}-expand:{expansion}-kernel:{kernel}"
                key += f"-stride:{la.stride}-idskip:{keeps}{suffix}"
                lut[key] = {"count": 7, "mean": kernel + expansion / 10 + la.in_chs / 1000}
    return lut


@pytest.mark.parametrize("suffix", ["", "-se:0-hs:0"])
def test_proxyless_lut(tmp_path: Path, lookup: Main, suffix: str) -> None:
    space, file = load_space("proxylessnas", 224, 1000), tmp_path / "lut.yaml"
    lut = proxyless_lut(space, suffix)
    file.write_text(yaml.safe_dump(lut))
    table, _ = import_table("proxyless_lut", file, space, bare(space))
    assert table.fixed["latency"] == 10_000_000
    for i, layer in enumerate(space.layers):
        for c, name in enumerate(layer.choices):
            expected = 0 if name == "skip" else int(name[1]) + int(name[4]) / 10
            expected += 0 if name == "skip" else layer.in_chs / 1000
            assert table.costs["latency"][i, c] == pytest.approx(1e6 * expected, abs=1)
    lookup(
        *("--search-space", "proxylessnas", "--import", "proxyless_lut", "lut.yaml"),
        *("--save", "out.yaml"),
    )
    again = read(tmp_path / "out.yaml", space)
    assert np.array_equal(again.costs["latency"], table.costs["latency"])
    other = load_space("proxylessnas", 160, 1000)
    with pytest.raises(ValueError, match="has no entry 'expanded_conv-input:80x80x16"):
        import_table("proxyless_lut", file, other, bare(other))
    with pytest.raises(ValueError, match="no name for"):
        import_table("proxyless_lut", file, spos := load_space("spos", 224, 1000), bare(spos))


def test_singlepath_json(tmp_path: Path) -> None:
    """What the shipped table came from, put back together."""
    space, file = load_space("singlepath", 224, 1000), tmp_path / "pixel1.json"
    shipped = read("pixel1_singlepath", space)
    layers = [dict.fromkeys("0123", 1.0)]
    for i, layer in enumerate(space.layers):
        costs = dict(zip(layer.choices, shipped.costs["latency"][i].tolist(), strict=False))
        slices = ("k3_e3", "k3_e6", "k5_e3", "k5_e6")
        layers.append({str(j): costs.get(n, 0) / 1e6 for j, n in enumerate(slices)})
    file.write_text(json.dumps({str(i): layer for i, layer in enumerate(layers)}))
    table, _ = import_table("singlepath_json", file, space, bare(space))
    assert np.array_equal(table.costs["latency"], shipped.costs["latency"])
    assert table.fixed["latency"] == shipped.fixed["latency"] == 13_100_400
    assert SINGLEPATH_REST == 19.5999


def test_blocks_measured_elsewhere_become_a_table(
    tmp_path: Path, lookup: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exported, timed by the script that goes with them, imported: every row has its time."""
    spec = yaml.safe_load(TINY.read_text()) | {"choices": ["k3_e3", "skip"]}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(spec))
    flags = ("--search-space", "small.yaml", "--dataset", "digits")
    lookup(*flags, "--export-blocks", "blocks")
    folder = tmp_path / "blocks"
    index = json.loads((folder / "index.json").read_text())
    files = {block["file"] for block in index["blocks"]}
    assert files == {path.name for path in folder.glob("*.onnx")}
    assert {"stem.onnx", "first.onnx", "head.onnx"} < files and index["num_classes"] == 10
    subprocess.run([sys.executable, folder / "measure.py"], check=True, timeout=120)
    rows = list(csv.reader((folder / "times.csv").read_text().splitlines()))
    assert {file for file, _ in rows[1:]} == files and all(float(ms) > 0 for _, ms in rows[1:])
    text = "\n".join(["file,ms", *(f"{b['file']},{i + 1}" for i, b in enumerate(index["blocks"]))])
    (folder / "times.csv").write_text(text)
    times = ("--import", "block_times", "blocks/times.csv", "--save", "phone.yaml")
    lookup(*flags, *times)
    monkeypatch.chdir(tmp_path)
    space = load_space("small.yaml", 8, 10)
    table = read(tmp_path / "phone.yaml", space)
    n = len(files)
    assert table.fixed["latency"] == (n + (n - 1) + (n - 2)) * 10**6
    by_file = {b["file"]: i + 1 for i, b in enumerate(index["blocks"])}
    for i, layer in enumerate(space.layers):
        file = f"k3_e3_{layer.in_chs}-{layer.out_chs}_s{layer.stride}_{layer.in_size}px.onnx"
        assert table.costs["latency"][i, layer.choices.index("k3_e3")] == by_file[file] * 10**6
        if "skip" in layer.choices:
            assert table.costs["latency"][i, layer.choices.index("skip")] == 0
    (folder / "times.csv").write_text("file,ms\nstem.onnx,fast\n")
    assert "'fast' is not a number" in lookup(*flags, *times, ok=False)
    (folder / "times.csv").write_text("file,ms\nstem.onnx,1\n")
    assert "has no entry 'k3_e3" in lookup(*flags, *times, ok=False)
    index["blocks"][-1]["rows"] = [[space.num_layers + 1, "k3_e3"]]
    (folder / "index.json").write_text(json.dumps(index))
    assert "is not the index that --export-blocks" in lookup(*flags, *times, ok=False)
