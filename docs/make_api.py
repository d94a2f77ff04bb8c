"""Write docs/api.md: the public functions and classes, from their docstrings.

python docs/make_api.py
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from utils.files import write_text  # noqa: E402

API = {
    "Settings": {"config_file.arg_config.sources": "settings"},
    "Spaces and networks": {
        "model": "load_space SearchSpace Supernet build_supernet Subnet BLOCKS conv_bn",
        "train_supernet": "load_inputs new_supernet train",
        "utils.tracker": "Tracker Callback",
    },
    "Costs and budgets": {
        "lookup_table.builder": "load_table",
        "lookup_table": "LookupTable parse_limit build_budget Budget",
    },
    "Search": {
        "search_strategy.strategy": "SearchStrategy",
        "search_strategy.random_search": "RandomSearch RandomConfig",
        "search_strategy.evolution": "EvolutionSearch EvolutionConfig",
        "search_strategy.evaluator": "Evaluator",
        "search_strategy.history": "History run_search",
    },
    "Weights": {
        "model": "extract_subnet load_subnet load_weights save_weights load_preprocessing "
        "Preprocessing fold_batch_norms load_architecture architecture_record",
        "model.export": "export_onnx export_torch",
        "model.quantised": "export_int8",
        "model.hub": "export_hub hub_class",
        "model.timm_weights": "timm_network copy_timm start_supernet",
    },
}
HEAD = """# The public API

[examples/quickstart.ipynb](../examples/quickstart.ipynb) is the whole way in fifteen lines,
[examples/own_model.py](../examples/own_model.py) a search space of your own blocks. In a clone
import from `model` and so on, with its folder on the path; after `pip install .` from
`oneshot_nas.model`.

Legend: B images, C channels, L searchable layers, N architectures, K classes. An architecture is an
int vector `[L]` of choices. This page is made of the docstrings by `python docs/make_api.py`.
"""


def documented(doc: str) -> list[str]:
    """The first paragraph as text, the rest as it stands."""
    first, _, rest = inspect.cleandoc(doc).partition("\n\n")
    return [" ".join(first.split()), ""] + (["```text", rest, "```", ""] if rest else [])


def signature(function: Callable[..., object]) -> str:
    """Arguments and result as the source has them, but for `self`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    node = tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    arguments = ast.unparse(node.args).removeprefix("self").removeprefix(", ")
    return f"({arguments})" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")


def entry(module: str, name: str) -> list[str]:
    """The lines of one name; of a class with its public methods."""
    thing = getattr(importlib.import_module(module), name)
    if not callable(thing):
        call = f"{name}[name] = function(in_chs, out_chs, stride, style) -> nn.Module"
        return [f"### {module}.{name}", "", f"Further blocks of search spaces: `{call}`.", ""]
    lines = [f"### {module}.{name}", ""]
    if inspect.isfunction(thing):
        lines += ["```python", f"{name}{signature(thing)}", "```", ""]
    own = thing.__doc__ or ""
    lines += documented(own if not own.startswith(f"{name}(") else thing.__name__)
    methods = vars(thing).items() if inspect.isclass(thing) else ()
    for key, method in methods:
        if inspect.isfunction(method) and method.__doc__ and key[0] != "_":
            summary = " ".join(inspect.cleandoc(method.__doc__).partition("\n\n")[0].split())
            lines.append(f"- `{key}{signature(method)}`: {summary}")
    return [*lines, ""] if lines[-1] else lines


def page() -> str:
    """The page, as Markdown."""
    lines = [HEAD]
    for title, modules in API.items():
        lines += [f"## {title}", ""]
        for module, names in modules.items():
            for name in names.split():
                lines += entry(module, name)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    write_text(ROOT / "docs" / "api.md", page())
