"""The reference page of Python, from the docstrings of the package and of its stub, without importing either."""

import ast
import re
import textwrap

from sources import ROOT

PACKAGE = ROOT / "bindings-python" / "python" / "wsguard"
SECTIONS = {"Args:": "Arguments", "Raises:": "Raises", "Returns:": "Returns", "Yields:": "Yields"}


class Package:
    """The names that the files of a folder define."""

    def __init__(self, folder):
        self.nodes, self.lines, self.modules = {}, {}, {}
        for path in sorted([*folder.glob("*.pyi"), *folder.glob("*.py")]):
            text = path.read_text()
            tree = ast.parse(text)
            self.modules[path.stem] = tree
            for node in tree.body:
                if name := defined(node):
                    self.nodes.setdefault(name, node)
                    self.lines.setdefault(name, text.split("\n"))

    def exported(self, module="__init__"):
        """The names of `__all__`."""
        for node in self.modules[module].body:
            if isinstance(node, ast.Assign) and defined(node) == "__all__":
                return list(ast.literal_eval(node.value))
        raise SystemExit(f"{module} has no __all__")

    def entry(self, name):
        """The lines of the page about a name."""
        node = self.nodes.get(name)
        if node is None:
            raise SystemExit(f"wsguard.{name} is exported, and was not found")
        out = [f'### `{name}` {{ #{name.lower()} data-toc-label="{name}" }}', ""]
        if isinstance(node, ast.ClassDef):
            return out + self.of_class(name, node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return [*out, *code(signature(node)), *words(ast.get_docstring(node))]
        return [*out, *code([ast.unparse(node)[:400]]), *words(self.beside(name, node))]

    def of_class(self, name, node):
        made = next((each for each in node.body if defined(each) in ("__init__", "__new__")), None)
        kinds = [ast.unparse(base) for base in node.bases]
        if any(kind.split("[")[0] in ("TypedDict", "NamedTuple", "Protocol") for kind in kinds) or "Options" in name:
            return [*words(ast.get_docstring(node)), *self.fields(name, node)]
        # The bases of an exception say what catches it; others are the package's own affair.
        bases = f"({', '.join(kinds)})" if any(word in " ".join(kinds) for word in ("Exception", "Error")) else ""
        out = code(signature(made, f"class {name}") if made else [f"class {name}{bases}"])
        out += words(ast.get_docstring(node))
        last = None
        for member, holder in self.members(node):
            # Overloads follow each other below one heading.
            out += self.member(name, member, holder)[2 if defined(member) == last else 0 :]
            last = defined(member)
        return out

    def members(self, node, seen=None):
        """The public members of a class, its own first, then those of bases in the package."""
        seen = set() if seen is None else seen
        for each in node.body:
            name = defined(each)
            if (
                name
                and (not name.startswith("_") or name in ("__aiter__", "__await__"))
                and not is_overload_of(each, name, seen)
            ):
                seen.add(name)
                yield each, node
        for base in node.bases:
            below = self.nodes.get(ast.unparse(base).split("[")[0])
            if isinstance(below, ast.ClassDef):
                yield from self.members(below, seen)

    def member(self, owner, node, holder):
        name = defined(node)
        heading = [f'#### `{name}` {{ #{owner.lower()}-{name} data-toc-label="{name}" }}', ""]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(ast.unparse(mark).endswith((".setter", ".deleter")) for mark in node.decorator_list):
                return []
            return [*heading, *code(signature(node)), *words(ast.get_docstring(node))]
        return [*heading, *code([ast.unparse(node)]), *words(self.beside(holder.name, node))]

    def fields(self, name, node):
        """The fields of a dictionary or tuple type, with their comments, as the source has them."""
        lines = self.lines[name]
        first = node.body[1 if ast.get_docstring(node) else 0 :]
        if not first:
            return []
        begin = first[0].lineno - 1
        while lines[begin - 1].strip().startswith("#:"):
            begin -= 1
        text = textwrap.dedent("\n".join(lines[begin : node.end_lineno])).split("\n")
        return code(
            [
                f"class {name}({', '.join(ast.unparse(base) for base in node.bases)}):",
                *("    " + line if line else "" for line in text),
            ]
        )

    def beside(self, owner, node):
        """The comment `#:` above a name, or the text below it."""
        lines, said, at = self.lines[owner], [], node.lineno - 2
        while at >= 0 and lines[at].strip().startswith("#:"):
            said.insert(0, lines[at].strip()[2:].strip())
            at -= 1
        return "\n".join(said)


def defined(node):
    """The name that a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return target.id if isinstance(target, ast.Name) else getattr(getattr(node, "name", None), "id", None)


def is_overload_of(node, name, seen):
    marks = [ast.unparse(mark) for mark in getattr(node, "decorator_list", [])]
    return name in seen and not any(mark.endswith("overload") for mark in marks)


def signature(node, instead=None):
    """The lines of a function's signature; with `instead` those of a class that it makes."""
    arguments = node.args
    if instead:
        positional = arguments.posonlyargs or arguments.args
        positional.pop(0)
    marks = [] if instead else [f"@{ast.unparse(mark)}" for mark in node.decorator_list]
    head = instead or ("async def " if isinstance(node, ast.AsyncFunctionDef) else "def ") + node.name
    gives = f" -> {ast.unparse(node.returns)}" if node.returns and not instead else ""
    inside = ast.unparse(arguments).strip()
    parts = split(inside[3:] if instead and inside.startswith("/, ") else inside)
    line = f"{head}({', '.join(parts)}){gives}"
    if len(line) <= 88:
        return [*marks, line]
    return [*marks, f"{head}(", *(f"    {part}," for part in parts), f"){gives}"]


def split(text):
    """Arguments, at the commas between them."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [re.sub(r"^([^=]*:[^=]*?)=", r"\1 = ", part.strip()) for part in parts if part.strip()]


def code(lines):
    return ["```python", *lines, "```", ""]


def words(doc):
    """A docstring as Markdown: its literal blocks, its lists of arguments, its roles."""
    out, block, in_section = [], None, False
    for line in (doc or "").split("\n"):
        if block is not None:
            if line.startswith("    ") or not line.strip():
                block.append(line[4:])
                continue
            out += ["", "```python", *"\n".join(block).strip("\n").split("\n"), "```", ""]
            block = None
        if line.rstrip().endswith("::"):
            kept = line.rstrip()[:-2].strip()
            out += [marked(kept) + ":"] if kept else []
            block = []
        elif section := next((mark for mark in SECTIONS if line.startswith(mark)), None):
            out += [
                "",
                f"**{SECTIONS[section]}**"
                + (f" {marked(line[len(section) :].strip())}" if line[len(section) :].strip() else ""),
                "",
            ]
            in_section = True
        elif in_section and (found := re.match(r"^    (\*{0,2}\w+(?:, \w+)*): (.*)$", line)):
            out.append(f"- `{found[1]}`: {marked(found[2])}")
        elif in_section and line.startswith("    "):
            out.append("    " + marked(line.strip()))
        else:
            in_section = in_section and not line.strip()
            out.append(marked(line))
    if block:
        out += ["", "```python", *"\n".join(block).strip("\n").split("\n"), "```"]
    return [*out, ""]


def marked(line):
    line = re.sub(r":(?:meth|class|func|attr|data|mod):`~?\.?([^`]*)`", r"`\1`", line)
    line = line.replace("``", "`")
    return re.sub(r"`[^`]*`|[<>]", lambda it: it[0] if len(it[0]) > 1 else {"<": "&lt;", ">": "&gt;"}[it[0]], line)


def page():
    top, testing = Package(PACKAGE), Package(PACKAGE / "testing")
    out = [
        "# Python",
        "",
        "What `import wsguard` gives. [Start in Python](../start/python.md) has a whole program, "
        "[the guide](../bindings-python/README.md) what is particular to Python.",
        "",
    ]
    names = top.exported()
    # What a program begins with stands first.
    first = ["Server", "Connection", "Message", "Request", "Accept", "Reject", "Close", "Violation", "Audience"]
    out += ["## Server and connections", ""]
    for name in first:
        out += top.entry(name)
    out += ["## The rest", ""]
    for name in sorted(set(names) - set(first)):
        out += top.entry(name)
    out += ["## `wsguard.testing` { #testing }", "", *words(ast.get_docstring(testing.modules["__init__"]))]
    for name in testing.exported():
        # The same name means another thing there.
        out += [line.replace("{ #", "{ #testing-") if line.startswith("###") else line for line in testing.entry(name)]
    for module in ("asgi", "uvicorn"):
        tree = ast.parse((PACKAGE / f"{module}.py").read_text())
        out += [f"## `wsguard.{module}` {{ #{module} }}", "", *words(ast.get_docstring(tree))]
    return "\n".join(out)
