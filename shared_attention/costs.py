"""The cost formula of a card: one line of arithmetic that is read by people and evaluated by the benchmark.

>>> formula = CostFormula("4*N*C**2 + 2*N*window*C")
>>> print(formula)
4·N·C² + 2·N·window·C
>>> formula(N=100, C=8, window=49)
104000.0
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CostFormula"]

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "sqrt": math.sqrt,
    "log2": math.log2,
    "ceil": math.ceil,
}
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class CostFormula:
    """Multiplications of one forward pass of one sample, as arithmetic over named sizes.

    Args:
        text: `+ - * / **`, numbers, names, and `min max sqrt log2 ceil`. `N` tokens, `M` context tokens, `C` channels,
            `D` channels of one head, `H` heads, `rank` grid axes, and any argument of the mechanism by its name (one
            given an axis counts as its product, one number as itself to the power of the rank where it is a `window`).

    Raises:
        ValueError: The text is not such a formula.
    """

    text: str

    def __post_init__(self) -> None:
        try:
            tree = ast.parse(self.text, mode="eval").body
        except SyntaxError:
            raise ValueError(f"cost {self.text!r} is not arithmetic") from None
        _check(tree, self.text)

    @property
    def names(self) -> frozenset[str]:
        """The sizes that the formula needs."""
        found = {node.id for node in ast.walk(ast.parse(self.text, mode="eval")) if isinstance(node, ast.Name)}
        return frozenset(found - _FUNCTIONS.keys())

    def __call__(self, **sizes: float) -> float:
        """The number for these sizes.

        Raises:
            ValueError: A size that the formula needs is missing.
        """
        if missing := sorted(self.names - sizes.keys()):
            raise ValueError(f"cost {self.text!r} needs {', '.join(missing)}")
        return float(_value(ast.parse(self.text, mode="eval").body, sizes))

    def __str__(self) -> str:
        text = re.sub(r"\*\*(\d+)", lambda power: power[1].translate(_SUPERSCRIPTS), self.text)
        return text.replace("**", "^").replace("*", "·")


def _check(node: ast.expr, text: str) -> None:
    match node:
        case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
            _check(left, text)
            _check(right, text)
        case ast.Call(func=ast.Name(name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            for argument in arguments:
                _check(argument, text)
        case ast.Name() | ast.Constant(int() | float()):
            pass
        case _:
            allowed = f"+ - * / **, numbers, names, {', '.join(_FUNCTIONS)}"
            raise ValueError(f"cost {text!r} holds {ast.unparse(node)!r}; allowed are {allowed}")


def _value(node: ast.expr, sizes: dict[str, float]) -> float:
    match node:
        case ast.BinOp(left, op, right):
            return _OPERATORS[type(op)](_value(left, sizes), _value(right, sizes))
        case ast.Call(func=ast.Name(name), args=arguments):
            return _FUNCTIONS[name](*(_value(argument, sizes) for argument in arguments))
        case ast.Name(name):
            return sizes[name]
        case ast.Constant(int(number) | float(number)):
            return number
    raise ValueError(f"{ast.unparse(node)} is not arithmetic")
