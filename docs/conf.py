"""Sphinx configuration; ``make docs`` builds the pages and runs their examples."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import figures  # noqa: E402

import torch_cormorant  # noqa: E402

project = "torch-cormorant"
author = "The torch-cormorant authors"
project_copyright = "the torch-cormorant authors, MIT licence"
release = version = torch_cormorant.__version__

extensions = [
    "mathml",
    "myst_nb",  # brings myst_parser
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [
    # Other projects; their pages are not fetched, so that a build needs no network.
    ("py:.*", r"(torch|torch_geometric|numpy|lightning|torchmetrics|typing)\..*"),
    ("py:.*", r"(ase|collections|fractions|matplotlib|os|pathlib|torch_sim|types)\..*"),
    ("py:class", r"(nn|np)\..*|Atoms|Module|NDArray|Path|Tensor"),
    ("py:exc", "PropertyNotImplementedError"),
    # Types inside of signatures that are no part of the public face.
    ("py:class", r"(.*\.)?(Block|Chunk|HeadSpec|MoleculeBatch|NpzFile)"),
    (
        "py:class",
        r"(.*\.)?(FrameReader|K|M|MaskSpec|NormSpec|Pairs|Progress|RadialSpec|Words|H|N|R)",
    ),
    ("py:class", r"(.*\.)?(Children|WithOriginal|WithRadialWeights)"),
    ("py:class", r"(.*\.)?(Data|Loss|Model|Output|Training)Config"),
]

html_theme = "furo"
html_math_renderer = "mathml"  # readable offline
myst_update_mathjax = False
html_title = f"torch-cormorant {release}"
html_copy_source = False

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Tutorials are executed once; the second builder takes their results from the cache.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "jupyter_cache")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shapes"]

# The pages' examples run here; those of docstrings run in tests/test_doctests.py.
doctest_test_doctest_blocks = ""
doctest_global_setup = """
import torch
_ = torch.manual_seed(0)
"""

PUBLIC_MODULES = (
    "torch_cormorant",
    "torch_cormorant.cg",
    "torch_cormorant.conv",
    "torch_cormorant.data",
    "torch_cormorant.graph",
    "torch_cormorant.models",
    "torch_cormorant.nn",
    "torch_cormorant.ops",
    "torch_cormorant.so3",
    "torch_cormorant.train",
    "torch_cormorant.visualize",
)
ERROR_LIST = re.compile(r"\s+(\w+Error, )*\w+Error,")
logger = logging.getLogger("public_names")


def draw_figures(app: Sphinx) -> None:
    """Draw the pictures of the pages into ``_build/figures``."""
    folder = HERE / "_build" / "figures"
    if app.builder.format == "html" or not folder.is_dir():
        figures.draw_all(folder)


def join_error_lists(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Put a list of error types on one line; napoleon reads no longer ones."""
    del app, what, name, obj, options
    for number in range(len(lines) - 2, -1, -1):
        if ERROR_LIST.fullmatch(lines[number]):
            lines[number] += " " + lines.pop(number + 1).lstrip()


def check_public_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of a public name without an entry in the reference."""
    del app
    domain = env.get_domain("py")
    if not isinstance(domain, PythonDomain):
        return
    entries = {name.rpartition(".")[2] for name in domain.objects}
    for module in PUBLIC_MODULES:
        for name in importlib.import_module(module).__all__:
            if name not in entries and not name.startswith("__"):
                logger.warning("%s.%s has no entry in the reference", module, name)


def setup(app: Sphinx) -> None:
    """Connect what is done besides the extensions."""
    app.connect("builder-inited", draw_figures)
    # 400 is before napoleon.
    app.connect("autodoc-process-docstring", join_error_lists, priority=400)
    app.connect("env-check-consistency", check_public_names)
