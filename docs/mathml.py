"""Formulas as MathML, which browsers draw by themselves: no page asks for a script."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def converted(text: str, display: str) -> str:
    """A formula of LaTeX as MathML, or an error that names what is not understood."""
    if r"\\" in text and r"\begin" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    found: str = convert(text, display=display)
    if "\\" in found:
        raise ValueError(f"not understood: {text} became {found}")
    return found


def visit_inline(translator: Any, node: nodes.math) -> None:
    """A formula in a line."""
    translator.body.append(converted(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """A formula on lines of its own."""
    text = converted(node.astext(), "block")
    translator.body.append(f'<div class="math">{text}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
