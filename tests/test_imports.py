"""The direction of the house, read off the syntax trees: nothing imports what lies above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from refine import paths

PACKAGE = paths.ROOT / "refine"

# Floors of the house. A module imports its own floor or lower ones; the longest prefix counts.
FLOORS = {
    "refine": 0,
    "refine.faults": 0,
    "refine.paths": 0,
    "refine.audio": 0,
    "refine.options": 0,
    "refine.losses": 0,
    "refine.metrics": 0,
    "refine.files": 1,
    "refine.processes": 1,
    "refine.runs": 2,
    "refine.jobs": 7,
    "refine.worker": 8,
    "refine.cli": 9,
    "refine.__main__": 10,
}
# Modules whose import must not load torch: pages and `jobs` open without it.
TORCH_FREE = (
    "refine.audio",
    "refine.paths",
    "refine.options",
    "refine.files",
    "refine.faults",
    "refine.processes",
    "refine.sockets",
    "refine.runs",
    "refine.jobs",
    "refine.worker",
    "refine.corpus",
    "refine.losses.bounds",
    "refine.levels",
    "refine.metrics",
    "refine.synthesis",
    "refine.embedding_table",
    "refine.embeddings",
    "refine.evaluation",
    "refine.comparison",
    "refine.factors",
    "refine.probes",
    "refine.softmax",
    "refine.splits",
    "refine.projection",
    "refine.spectrogram",
    "refine.demo",
    "refine.recipes",
    "refine.pseudo_labels",
    "refine.encoders",
    "refine.heads",
    "refine.head_fitting",
    "refine.cli",
    "refine.__main__",
    "refine.adapter",
    "refine.supervision",
    "refine.lineage",
    "refine.lineup",
    "refine.names",
    "refine.drawing",
    "refine.report",
    "refine.report_html",
    "refine.export",
    "refine.curves",
    "refine.methods",
    "refine.pictures",
    "refine.triplets",
    "refine.live",
    "refine.live.cloud",
    "refine.live.engine",
    "refine.live.recording",
    "refine.live.route",
    "refine.live.teaching",
    "refine.tls",
    "refine.class_changes",
    "refine.confusion",
    "refine.maps",
    "refine.neighbours",
    "refine.spaces",
    "refine.subspace_look",
    "refine.interventions",
    "refine.listening",
    "refine.lessons",
)
# What a trained encoder is made of: it knows neither runs, jobs nor the command line.
LIBRARY = ("audio", "augment", "corpus", "synthesis", "encoders", "losses", "metrics", "options")
# Loaded with the first encoder, by `refine.encoders.__getattr__`.
WITH_TORCH = tuple(
    f"refine.encoders.{name}"
    for name in (
        "pretrained", "padding", "pooling", "collate", "encoder", "projector", "trainable",
        "parts", "speaker", "networks", "masked", "fbank",
    )
)  # fmt: skip
LOADS_TORCH = (*WITH_TORCH, *(f"refine.encoders.{n}" for n in ("load", "Encoder", "Hidden")))
HEAVY = ("torch", "transformers", "torchaudio", "accelerate")


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(paths.ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(path: Path, everywhere: bool = True) -> set[str]:
    """Names that a file imports; of those at its head alone unless `everywhere`."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if not everywhere and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def _floor(module: str) -> int | None:
    while module not in FLOORS:
        module = module.rpartition(".")[0]
        if not module:
            return None
    return FLOORS[module] if module != "refine" else None


MODULES = _modules()


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_streamlit_or_a_page(module: str) -> None:
    for name in _imports(MODULES[module]):
        assert name.split(".")[0] not in ("streamlit", "pages", "app"), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_its_own_floor_or_lower_ones(module: str) -> None:
    floor = _floor(module)
    for name in _imports(MODULES[module]):
        other = _floor(name)
        if floor is not None and other is not None:
            assert other <= floor, f"{module} (floor {floor}) imports {name} (floor {other})"


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.split(".")[1:2] and m.split(".")[1] in LIBRARY]
)
def test_the_library_knows_no_runs_and_no_recipes(module: str) -> None:
    above = ("refine.runs", "refine.jobs", "refine.worker", "refine.cli", "refine.recipes")
    for name in _imports(MODULES[module]):
        assert not name.startswith((*above, "refine.training")), f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("refine.recipes.")])
def test_a_recipe_imports_no_other_recipe(module: str) -> None:
    for name in _imports(MODULES[module]):
        if name.startswith("refine.recipes."):
            known = MODULES.get(name)  # of the package itself only its own names
            assert known is None or name == module, f"{module} imports {name}"


def test_losses_and_metrics_know_nothing_of_each_other() -> None:
    for module, path in MODULES.items():
        room = ".".join(module.split(".")[:2])
        if room in ("refine.losses", "refine.metrics"):
            for name in _imports(path):
                assert not name.startswith("refine.") or name.startswith(room), (module, name)


@pytest.mark.parametrize("module", ["refine.jobs", "refine.runs"])
def test_jobs_import_no_recipe(module: str) -> None:
    for name in _imports(MODULES[module]):
        assert not name.startswith(("refine.recipes", "refine.training")), f"{module}: {name}"


@pytest.mark.parametrize(
    "module",
    [
        m
        for m in MODULES
        if m not in WITH_TORCH and any(m == free or m.startswith(free + ".") for free in TORCH_FREE)
    ],
)
def test_no_heavy_library_at_the_head_of_a_module_that_pages_use(module: str) -> None:
    heads = _imports(MODULES[module], everywhere=False)
    heavy = {name for name in heads if name.split(".")[0] in HEAVY or name in LOADS_TORCH}
    assert not heavy, f"{module} imports {heavy} at its head"


@pytest.mark.parametrize(
    "code",
    [
        "import runpy; sys.argv = ['refine', 'jobs', 'list']; "
        "runpy.run_module('refine', run_name='__main__')",
        "import runpy; sys.argv = ['refine', 'train', 'rewire', '--help']; "
        "runpy.run_module('refine', run_name='__main__')",
        "import " + ", ".join(name for name in TORCH_FREE if name in MODULES),
    ],
    ids=["jobs list", "train --help", "imports"],
)
def test_torch_is_not_loaded(code: str) -> None:
    program = f"""
import sys
try:
    {code}
except SystemExit as ending:
    assert not ending.code
heavy = sorted({{name.split('.')[0] for name in sys.modules}} & set({HEAVY}))
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
