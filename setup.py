"""Build the package `oneshot_nas` from the top-level folders and scripts.

In a clone they are imported by their own names (`from model import load_space`). Installed, such
names would collide with everyone else's `model`, `data` and `utils`, so the wheel holds all of
them below `oneshot_nas`, and the build rewrites their imports of each other.
"""

from __future__ import annotations

import ast
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

NAME = "oneshot_nas"
ROOT = Path(__file__).resolve().parent
SCRIPTS = ("search", "train_supernet", "train_subnet", "evaluate_ranking", "compare_runs")
NOT_INSTALLED = {"benchmarks", "docs", "examples", "tests"}
FOLDERS = sorted({p.parent.name for p in ROOT.glob("*/__init__.py")} - NOT_INSTALLED)
INIT = '"""OneShot NAS; docs/api.md lists what there is to import."""\n'


def with_prefix(source: str) -> str:
    """The source with its imports of our modules made imports of `oneshot_nas`'s.

    Raises:
        ValueError: `import model.space`, which would bind another name.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if not {name.split(".")[0] for name in names} & {*FOLDERS, *SCRIPTS}:
            continue
        if isinstance(node, ast.Import):
            raise ValueError(f"line {node.lineno}: write `from a import b`, not `import a`")
        line, start = lines[node.lineno - 1], node.col_offset  # the lines are ASCII up to there
        lines[node.lineno - 1] = line[:start] + line[start:].replace("from ", f"from {NAME}.", 1)
    return "".join(lines)


class Build(build_py):
    """build_py that takes the scripts only out of the top level, and rewrites imports."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        modules = super().find_package_modules(package, package_dir)
        return [m for m in modules if package != NAME or m[1] in SCRIPTS]

    def build_module(self, module: str, module_file: str, package: str) -> tuple[str, int]:
        target, copied = super().build_module(module, module_file, package)
        text = Path(module_file).read_text(encoding="utf-8")
        Path(target).write_text(with_prefix(text), encoding="utf-8")
        return target, copied

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            Path(self.build_lib, NAME, "__init__.py").write_text(INIT, encoding="utf-8")


if __name__ == "__main__":
    packages = [NAME, *(f"{NAME}.{f}" for f in FOLDERS), f"{NAME}.config_file.arg_config"]
    setup(
        packages=packages,
        package_dir={NAME: "."},
        package_data={"": ["*.html"], f"{NAME}.config_file": ["**/*.yaml"]},
        include_package_data=False,  # only what is named above
        cmdclass={"build_py": Build},
    )
