"""Single faults that can be planted in a module: each is the module's source with one thing changed."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub,
    ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip

#: Keywords that decide how a file or a figure looks, or what a warning says, and nothing that is computed.
LOOKS = {
    "indent", "ensure_ascii", "stacklevel", "strict", "where", "columns", "figsize", "dpi", "color", "colors",
    "facecolor", "edgecolor", "edgecolors", "linewidth", "linewidths", "linestyle", "markersize", "zorder",
    "fontsize", "title_fontsize", "labelsize", "fontweight", "rotation", "ha", "va", "handlelength", "cmap",
    "capsize", "frameon", "folded",
}  # fmt: skip

#: Calls that decide the same and no more.
ARRANGES = {
    "set_aspect", "set_visible", "set_xlim", "set_ylim", "set_box_aspect", "margins", "grid", "tick_params",
    "locator_params", "subplots_adjust", "set_axis_off", "set_linewidth", "set_alpha", "label_outer",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes
    ----------
    line : int
        Where in the module.
    change : str
        The expression as it is, and as it is planted.
    which : int
        Of several places that change alike, counted from 0: with `change` a name that outlasts moves.
    source : str
        The whole faulty module.
    """

    line: int
    change: str
    which: int
    source: str

    @property
    def name(self) -> str:
        """Name it for a reader: the change, and its number where it is not the first of its kind."""
        return f"{self.change} #{self.which + 1}" if self.which else self.change

    @property
    def key(self) -> str:
        """Name it shortly; in the order of these names a module's mutants are tried."""
        return hashlib.sha256(f"{self.change}/{self.which}".encode()).hexdigest()[:12]


@functools.cache
def mutants(source: str) -> list[Mutant]:
    """Return every single fault of a module, in an order as good as random and always the same."""
    tree = ast.parse(source)
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    found: dict[tuple[int, int, str], tuple[int, bytes]] = {}
    whole = source.encode()
    for top in tree.body:
        first, last = starts[top.lineno - 1], starts[top.end_lineno or 0]
        for node, after in _changes(top):
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)
            before = whole[begin:end].decode()
            text = ast.unparse(after) if isinstance(after, ast.AST) else after
            put = (text if isinstance(node, ast.stmt) else f"({text})").encode()
            try:
                ast.parse(whole[first:begin] + put + whole[end:last])
            except SyntaxError:
                continue
            before, text = " ".join(before.split()), " ".join(text.split())
            if before != text:
                found.setdefault((begin, end, f"{before} → {text}"), (node.lineno, put))
    seen: Counter[str] = Counter()
    made = []
    for (begin, end, change), (at, put) in sorted(found.items()):
        new = (whole[:begin] + put + whole[end:]).decode()
        made.append(Mutant(at, change, seen[change], new))
        seen[change] += 1
    return sorted(made, key=lambda mutant: mutant.key)


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, ast.AST | str]]:
    """Yield what to replace and by what; messages of errors, annotations and docstrings stay."""
    for node in _computing(tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield node, ast.Compare(node.left, [SWAPS[type(node.ops[0])]()], node.comparators)
        elif isinstance(node, ast.Compare):
            for place, sign in enumerate(node.ops):
                signs = [*node.ops[:place], SWAPS[type(sign)](), *node.ops[place + 1 :]]
                yield node, ast.Compare(node.left, signs, node.comparators)
        elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            yield node, ast.BinOp(node.left, SWAPS[type(node.op)](), node.right)
        elif isinstance(node, ast.BoolOp):
            yield node, ast.BoolOp(SWAPS[type(node.op)](), node.values)
            yield from ((node, value) for value in node.values)
        elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
            yield node, node.operand
        elif isinstance(node, ast.Constant):
            yield from ((node, text) for text in _other_constants(node.value))
        elif isinstance(node, ast.IfExp):
            yield node, node.body
            yield node, node.orelse
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            yield node, node.value
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg in LOOKS:
                    continue
                kept = [other for other in node.keywords if other is not keyword]
                yield node, ast.Call(node.func, node.args, kept)
            name = ast.unparse(node.func)
            if len(node.args) == 1 and not node.keywords and name in ("sorted", "abs", "round", "set"):
                yield node, node.args[0]
            if name in ("min", "max"):
                other = ast.Name("max" if name == "min" else "min", ast.Load())
                yield node, ast.Call(other, node.args, node.keywords)
        elif isinstance(node, ast.If | ast.While):
            yield node.test, ast.UnaryOp(ast.Not(), node.test)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node, "pass"
        elif isinstance(node, ast.AugAssign):
            yield node, "pass"
            if type(node.op) in SWAPS:
                yield node, ast.AugAssign(node.target, SWAPS[type(node.op)](), node.value)
        elif isinstance(node, ast.Continue | ast.Break):
            yield node, "pass"


def _other_constants(value: object) -> list[str]:
    if isinstance(value, bool):
        return [str(not value)]
    if isinstance(value, int):
        return [str(value + 1), *([str(value - 1)] if value > 1 else [])]
    if isinstance(value, float):
        return [repr(2 * value) if value else "1.0"]
    return []


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that compute: no annotation, decorator, raised message, import or printed line."""
    if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return
    if isinstance(node, ast.keyword) and node.arg in LOOKS - {"where", "columns"}:
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    called = node.value if isinstance(node, ast.Expr) else node
    name = ast.unparse(called.func).split(".")[-1] if isinstance(called, ast.Call) else ""
    if name in ("option", "warn", "print", *ARRANGES):
        return
    yield node
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("reshape"):
        # of -1 NumPy and torch take the sign, and the length that follows from the others
        node = ast.Call(node.func, [a for a in node.args if ast.unparse(a) != "-1"], node.keywords)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _computing(child)
