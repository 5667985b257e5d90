"""The architecture: imports go down only, and Linen stays inside the model."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "flaxbert"

# Module -> floor. A module imports from lower floors only; the files of one folder may import each other. A new
# file gets its floor here: the lowest one that its imports allow, or a higher one where that says more.
FLOORS = {
    "errors": 0, "progress": 0, "packing": 0, "trees": 0, "drawing": 0, "segments": 0,
    "config": 1, "bert": 1, "metrics": 1, "span_metrics": 1, "token_metrics": 1, "masking": 1, "vocabulary": 1,
    "disk_cache": 1, "curves": 1, "failures": 1, "array_formats": 2,
    "heads": 2, "lora": 2, "rates": 2, "remedies": 2, "records": 2, "strategies": 2, "steps": 2, "parallel": 2,
    "tasks": 2, "model_files": 2, "fingerprint": 2, "data": 3, "optimizers": 3, "checkpoint": 3, "huggingface": 3,
    "statistics": 3, "diagnostics": 3, "pages": 4, "report": 5,
    "pretrained": 4, "inference": 4, "families": 4,
    "activations": 5, "backbone": 5, "export": 5, "scratch": 5,
    "prepare": 6, "predict": 7, "extraction": 7,
    "run": 7, "seeds": 7, "evaluation": 8, "loop": 8, "grid": 8, "analysis": 9, "compare": 9, "train": 9,
    "__init__": 10, "demo": 10, "sweep": 10,
    "cli": 11,
    "__main__": 12,
}
LINEN = {"bert", "heads"}
FILES = sorted(ROOT.rglob("*.py"))


def top(path: Path) -> str:
    """The row of FLOORS that a file belongs to: its own name, or its folder's."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything that a file imports, inside functions too."""
    package = ("flaxbert", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[:len(package) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            yield from ((".".join([*base, alias.name]), node.lineno) for alias in node.names)


def imported_row(name: str) -> str | None:
    """The row of FLOORS that a dotted name means; None outside of flaxbert."""
    package, *rest = name.split(".")
    if package != "flaxbert":
        return None
    is_module = rest and ((ROOT / rest[0]).is_dir() or (ROOT / f"{rest[0]}.py").is_file())
    return rest[0] if is_module else "__init__"


def test_every_module_has_a_floor_and_every_floor_a_module():
    assert {top(path) for path in FILES} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path):
    own = top(path)
    below = {row for row, floor in FLOORS.items() if floor < FLOORS[own]}
    below |= {own} if (ROOT / own).is_dir() else set()
    wrong = [f"line {line}: {name} (floor {FLOORS[row]})" for name, line in imports(path)
             if (row := imported_row(name)) and row not in below]
    assert not wrong, f"{path.name} stands on floor {FLOORS[own]} and imports {wrong}"


def test_linen_is_imported_by_the_model_alone():
    def uses(name):
        return name == "flax" or name.startswith(("flax.linen", "flax.nnx"))
    assert {top(path) for path in FILES if any(uses(name) for name, _ in imports(path))} == LINEN


def test_datasets_and_torch_are_imported_only_where_they_are_used():
    """Python 3.12 without `datasets` must work, and torch is never needed: not at the top of any file."""
    for path in FILES:
        at_top = {alias.name.split(".")[0] if isinstance(node, ast.Import) else (node.module or "").split(".")[0]
                  for node in ast.parse(path.read_text("utf-8")).body
                  if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
        assert not at_top & {"datasets", "seqeval", "torch", "sklearn", "matplotlib", "tensorboardX"}, path
