"""What the reference makes of docstrings and signatures that are also read at the terminal."""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, Extension, Function, Object

BLOCK = re.compile(r"(\S)?::$", re.MULTILINE)


class Readable(Extension):
    """Takes the second colon before a block away, and shows the values of private defaults."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = without_second_colon(obj.docstring.value)

    def on_function(self, *, func: Function, **_: Any) -> None:
        for parameter in func.parameters:
            name = str(parameter.default)
            constant = func.module.members.get(name) if name.startswith("_") else None
            if isinstance(constant, Attribute) and constant.value is not None:
                parameter.default = constant.value


def without_second_colon(text: str) -> str:
    """``default::`` becomes ``default:``; ``::`` alone goes away."""
    return BLOCK.sub(lambda match: f"{match[1]}:" if match[1] else "", text)
