"""Settings of Sphinx: pages that load nothing from a network and can be searched from a file."""

import re

from workbench._version import __version__

project = "CXR-LLaVA Workbench"
copyright = "CXR-LLaVA Workbench contributors, Apache-2.0. Not for clinical use"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
html_theme = "pydata_sphinx_theme"
html_title = project
html_theme_options = {
    "show_prev_next": False,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 6,
}
#: A page of results would fetch each page it lists, which a browser refuses for files.
html_show_search_summary = False
html_copy_source = False
html_show_sphinx = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
#: The glossary goes from its title to its words; errors are in `wb` and in `wb.errors`.
suppress_warnings = ["myst.header", "ref.python"]
default_role = "literal"
#: Found words in links, which the theme sets on a ground of nearly their own brightness.
FOUND = "<style>a .highlighted { color: var(--pst-color-text-base); }</style>"
html_context = {"default_mode": "auto"}


def setup(app):
    """Let `**options` in docstrings, which are no reStructuredText, stand; add the style."""

    def styled(app, page, template, context, tree):
        context["metatags"] = context.get("metatags", "") + FOUND

    def escaped(app, what, name, thing, options, lines):
        starred = re.compile(r"(?<![`*])(?:\*{1,2}|\|)(?=\w)")
        lines[:] = [
            one if one.lstrip().startswith((">>>", "..."))
            else starred.sub(lambda mark: re.sub(r"(.)", r"\\\1", mark[0]), one)
            for one in lines
        ]  # fmt: skip

    app.connect("autodoc-process-docstring", escaped, priority=100)
    app.connect("html-page-context", styled)
