"""Build the pages of docs/, Markdown that a code host shows as it is, as a site. `make docs` checks every link."""

from hubdpo.version import __version__

project = "hubdpo"
author = "The hubdpo authors"
project_copyright = "The hubdpo authors, Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"hubdpo {__version__}"
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["style.css"]

myst_enable_extensions = ["html_admonition", "attrs_block"]
myst_heading_anchors = 4
# fences of these languages have no highlighter
suppress_warnings = ["misc.highlighting_failure"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
