"""What the source may not do with a user's files: run code from them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "eegm2"
#: Calls that run, or may run, what a file or string says.
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "pickle.Unpickler", "cPickle.load", "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads",
    "joblib.load", "marshal.load", "marshal.loads", "shelve.open", "yaml.load", "yaml.unsafe_load",
    "pandas.read_pickle", "pd.read_pickle", "tarfile.open", "shutil.unpack_archive",
}  # fmt: skip


#: Compiled kernels are code that this package wrote, kept as Python keeps its own: see docs/security.md.
ALLOWED = {("code_cache.py", "pickle.loads")}


def findings(tree: ast.AST) -> Iterator[str]:
    """Yield what is wrong with the calls in a module."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in FORBIDDEN:
            yield f"line {node.lineno}: {name}"
        if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            yield f"line {node.lineno}: {name} without allow_pickle=False"
        if name == "torch.load" and given.get("weights_only") != "True":
            yield f"line {node.lineno}: torch.load without weights_only=True"
        if name.endswith(".load_from_checkpoint") and given.get("weights_only") != "True":
            yield f"line {node.lineno}: {name} without weights_only=True"
        if given.get("shell") == "True":
            yield f"line {node.lineno}: {name} through a shell"
        if name.endswith(("extractall", "extract")):
            yield f"line {node.lineno}: {name} unpacks an archive"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_code_from_files_is_run(path: Path) -> None:
    found = [
        line
        for line in findings(ast.parse(path.read_text()))
        if (path.name, line.partition(": ")[2]) not in ALLOWED
    ]
    assert found == []


def test_every_mat_file_is_checked_before_it_is_parsed() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        if "loadmat(" in text:
            assert "check_matfile(" in text, f"{path.name} parses MAT files unchecked"


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "subprocess.run(command, shell=True)",
        "archive.extractall(folder)",
        "eval(text)",
    ],
)
def test_the_check_itself_finds(line: str) -> None:
    assert len(list(findings(ast.parse(line)))) == 1
