"""Refuse a page that loads anything from another address, since the site must also work without a network."""

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)[^>]*>")
NOT_LOADED = re.compile(r"\brel=[\"']?(?:canonical|next|prev)\b")


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Check the finished page."""
    for tag in LOADED.finditer(output):
        if not NOT_LOADED.search(tag[0]):
            raise PluginError(f"{page.file.src_uri}: loads {tag[1]}; put the file into docs/ and link to it there")
    return output
