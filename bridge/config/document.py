"""YAML with places: plain data, the line of every value, and the traps of YAML 1.1 told apart.

Rules: a key stands once; a key is text; `${NAME}` in a value is replaced by an environment variable and `$$`
by `$`, after YAML has been read, so that no variable can add structure. A fault never repeats a value, which
may be a secret. Anchors, aliases and `<<` work; other tags do not.

Decision: `yaml.compose` and a small builder instead of `yaml.safe_load`, because the node graph still knows
lines, duplicate keys and how a value was written (`no` and `'no'` load as different things).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

#: Where something stands: keys and list indices from the top.
Place = tuple[str | int, ...]

#: What turns text into YAML's nodes.
Loader = yaml.SafeLoader | yaml.CSafeLoader

MAX_NODES = 100_000  # aliases can make a small file grow without end
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<broken>\{))")
_TAG = "tag:yaml.org,2002:"
_TYPED = {_TAG + name for name in ("bool", "int", "float", "null")}
#: Dates and such have no use here: they stay the text that was written.
_TEXT = {_TAG + name for name in ("str", "timestamp", "value", "merge")}
#: What a YAML parser says, and what helps.
_HINTS = {
    "cannot start any token": "indent with spaces, not tabs; put text that begins with @, ` or % in quotes",
    "mapping values are not allowed": "check the indentation; put text with a colon in it in quotes",
    "expected <block end>": "check the indentation; a matcher as a whole stands in quotes: 'team=\"db\"'",
    "expected ',' or": "a bracket is not closed, or text with brackets lacks its quotes",
    "could not find expected ':'": "a colon and a space belong between key and value",
    "undefined alias": "text that begins with * stands in quotes",
    "expected a single document": "one file holds one configuration: remove the `---` in the middle",
}


class Fault(NamedTuple):
    """Something wrong: where, in which line (0 for none), and what to write instead."""

    line: int
    place: Place
    what: str


class Document:
    """A YAML file as data, with what is needed to speak of its places."""

    def __init__(self) -> None:
        self.data: Any = {}
        self.faults: list[Fault] = []
        self.unquoted: dict[Place, str] = {}  # the words of values that YAML did not read as text
        self.expanded: set[Place] = set()  # values that hold an environment variable's text
        self._lines: dict[Place, int] = {(): 1}

    def line(self, place: Place) -> int:
        """Return the line of `place`, or of the nearest thing around it that has one."""
        return self._lines[self.known(place)]

    def known(self, place: Place) -> Place:
        """Return the longest beginning of `place` that stands in the file."""
        while place not in self._lines:
            place = place[:-1]
        return place

    def mark(self, place: Place, line: int) -> None:
        """Say where `place` stands."""
        self._lines[place] = line

    def fault(self, place: Place, what: str) -> None:
        """Note a fault at a place."""
        self.faults.append(Fault(self.line(place), place, what))


def read(
    text: str,
    environ: Mapping[str, str],
    *,
    loader: type[Loader] = yaml.SafeLoader,
    max_nodes: int = MAX_NODES,
) -> Document:
    """Return the document in `text`; its faults say what could not be read. Never raises for any text.

    `loader` reads YAML into nodes: libyaml's is faster, and knows fewer words for what is wrong.
    """
    document = Document()
    try:
        root = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        document.faults.append(syntax_fault(error, text))
        return document
    except RecursionError:
        document.fault((), "is nested too deeply")
        return document
    if root is not None:
        _Builder(document, environ, max_nodes).start(root)
    return document


def syntax_fault(error: yaml.YAMLError, text: str) -> Fault:
    """Return what a YAML parser found, with what helps."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "not readable"
        problem = "found an undefined alias" if "undefined alias" in problem else problem  # may be a secret
        said_all = f"{error.context} {problem}"
        hint = next((hint for said, hint in _HINTS.items() if said in said_all), "")
        return Fault(
            mark.line + 1 if mark else 1,
            (),
            f"not YAML: {problem.removeprefix('but ')}" + (f"; {hint}" if hint else ""),
        )
    position = getattr(error, "position", 0)  # a ReaderError: a character that YAML does not allow
    return Fault(text.count("\n", 0, position) + 1, (), "not YAML: a control character; remove it")


class _TooLargeError(Exception):
    """Aliases made more of the file than can be meant."""


class _Builder:
    """Turns nodes into data and fills a document."""

    def __init__(self, document: Document, environ: Mapping[str, str], max_nodes: int) -> None:
        self._document = document
        self._max_nodes = max_nodes
        self._environ = environ
        self._scalars = yaml.constructor.SafeConstructor()
        self._open: set[int] = set()  # the nodes being built, to see an alias to itself
        self._count = 0

    def start(self, root: yaml.Node) -> None:
        try:
            self._document.data = self.build(root, ())
        except _TooLargeError:
            self._document.data = {}
            self._document.fault(
                (), f"has more than {self._max_nodes} values; look for aliases (*name) of aliases"
            )
        except RecursionError:
            self._document.data = {}
            self._document.fault((), "is nested too deeply")

    def build(self, node: yaml.Node, place: Place) -> Any:
        self._count += 1
        if self._count > self._max_nodes:
            raise _TooLargeError
        if id(node) in self._open:
            self._document.fault(place, "an alias (*name) cannot stand inside of what it names")
            return None
        self._open.add(id(node))
        try:
            return self._built(node, place)
        finally:
            self._open.discard(id(node))

    def _built(self, node: yaml.Node, place: Place) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*place, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, place) if isinstance(node, yaml.ScalarNode) else None

    def _item(self, node: yaml.Node, place: Place) -> Any:
        self._document.mark(place, node.start_mark.line + 1)
        return self.build(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for merged in self._merged(node):
            value = self.build(merged, place)
            if isinstance(value, dict):
                built = value | built
            else:
                self._document.fault(place, "`<<` takes an alias of a mapping")
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                continue
            key = self._key(key_node, place, line)
            if key is None:
                continue
            self._document.mark((*place, key), line)
            if key in first_line:
                self._document.fault(
                    (*place, key), f"stands twice (first in line {first_line[key]}); remove one"
                )
                continue
            first_line[key] = line
            built[key] = self.build(value_node, (*place, key))
        return built

    @staticmethod
    def _merged(node: yaml.MappingNode) -> Iterator[yaml.Node]:
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                yield from value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]

    def _key(self, node: yaml.Node, place: Place, line: int) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._document.faults.append(Fault(line, place, "a key must be a word; write `key: value`"))
            return None
        key = str(node.value)
        if node.tag in _TYPED:
            trap = f"YAML does not read this unquoted key as text; write '{key}' in quotes"
            self._document.faults.append(Fault(line, (*place, key), trap))
            return None
        return key

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        if node.tag in _TYPED:
            self._document.unquoted[place] = node.value
            try:
                return self._scalars.construct_object(node)
            except ValueError:  # such as `!!int x`
                self._document.fault(place, "is not what its tag says; remove the tag")
                return None
        if node.tag not in _TEXT:
            self._document.fault(place, "tags such as !name are not used here; remove it")
            return None
        return self._expanded(str(node.value), place)

    def _expanded(self, text: str, place: Place) -> str:
        if "$" not in text:
            return text

        def value_of(found: re.Match[str]) -> str:
            name = found["name"]
            if name is None:
                if found["broken"]:
                    what = "after `${` comes the name of a variable and `}`; a literal `${` is written `$${`"
                    self._document.fault(place, what)
                return "$"
            if name not in self._environ:
                what = f"the environment variable {name} is not set; a literal `${{` is written `$${{`"
                self._document.fault(place, what)
                return ""
            self._document.expanded.add(place)
            return self._environ[name]

        return _VARIABLE.sub(value_of, text)


def resolved(text: str) -> Any:
    """Return what YAML would make of `text` as an unquoted value, if that is a number or true or false."""
    tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    if tag not in _TYPED:
        return text
    return yaml.constructor.SafeConstructor().construct_object(yaml.ScalarNode(tag, text))
