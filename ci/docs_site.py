"""What mkdocs does beside Markdown: pages made of the code itself, and links that leave docs/.

mkdocs calls the functions named `on_…` (`hooks` in mkdocs.yml). A page links to a file of the
repository as on any forge, by its relative path; on the site that file is a page under source/.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from ci import docs_reference

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")
# Of a page at the top of the repository: links to docs/ are kept, others become their words.
TO_DOCS = re.compile(r"\]\(docs/")
ELSEWHERE = re.compile(r"\[([^\]]+)\]\((?!docs/|https?:|#)[^)]+\)")
LANGUAGES = {".py": "python", ".toml": "toml", ".mjs": "javascript", ".yml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the reference, and one for each source that a page links to."""
    made = {f"reference/{name}.md": text() for name, text in docs_reference.PAGES.items()}
    written = {page.src_uri: page.content_string for page in files.documentation_pages()}
    outside = {
        path
        for uri, text in (written | made).items()
        for path in map(linked, LINK.findall(text), [uri] * len(text))
        if path is not None
    }
    made |= {f"source/{path}.md": source(path) for path in sorted(outside)}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points links out of docs/ to the page of what they mean; details may hold Markdown."""
    uri = page.file.src_uri

    def on_site(match: re.Match[str]) -> str:
        path = linked(match.groups(), uri)
        if path is None:
            return match[0]
        return f"]({relpath(f'source/{path}.md', Path(uri).parent.as_posix())})"

    if not uri.startswith("source/"):
        markdown = LINK.sub(on_site, markdown)
    return markdown.replace("<details>", '<details markdown="1">')


def linked(link: tuple[str | Any, ...], uri: str) -> str | None:
    """Returns the repository path that a link of the page `uri` means, if it leaves docs/."""
    path = normpath((Path("docs") / uri).parent.joinpath(link[0]).as_posix())
    is_ours = not path.startswith(("docs/", "..")) and (ROOT / path).exists()
    return path if is_ours else None


def source(path: str) -> str:
    """Returns a page that shows a file, or names what is in a folder."""
    place = ROOT / path
    if place.is_dir():
        return "\n".join([f"# {path}/", "", *(f"- `{name}`" for name in _names(place)), ""])
    text = place.read_text(encoding="utf-8")
    if place.suffix == ".md":
        return TO_DOCS.sub("](../", ELSEWHERE.sub(r"\1", text))
    return f"# {path}\n\n``````{LANGUAGES.get(place.suffix, 'text')}\n{text}\n``````\n"


def _names(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if not path.name.startswith((".", "__pycache__")):
            yield f"{path.name}/" if path.is_dir() else path.name
