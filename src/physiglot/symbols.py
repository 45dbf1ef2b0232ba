"""Which source a symbol depends on: the part of our own code reachable from it, name by name.

An import closure by module would re-run training when a plotting helper in the same file changes. Here each
top-level definition is a node; a definition depends on the definitions whose names it mentions, across our
own modules. The approximation errs to one side only: a name that might be used counts as used. What a module
does when it is imported (statements that have effects, also in the modules that it imports) counts for every
user of the module. Not seen: names made at run time (`getattr(module, name)` counts as all of the module,
`import_module(name)` as nothing: the workflow names those modules itself), and methods that are set on an object
from outside.
"""

import ast
import re
import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeGuard

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.name

Target = tuple[str, str | None]
"""(module, symbol); None stands for all of the module, "" for what importing it does."""

DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
IMPORTS = ast.Import | ast.ImportFrom
BLOCKS = ast.If | ast.Try
ASSIGNMENTS = ast.Assign | ast.AnnAssign | ast.AugAssign
REFLECTION = {"globals", "eval", "exec"}


def module_file(name: str) -> Path | None:
    """The file of `physiglot.a.b`, or None if it is not one of our modules."""
    first, *rest = name.split(".")
    if first != ROOT:
        return None
    path = PACKAGE.joinpath(*rest)
    found = [path / "__init__.py", *([path.with_suffix(".py")] if rest else [])]
    return next((f for f in found if f.is_file()), None)


class _Prose(ast.NodeTransformer):
    """Drops what is only for readers: docstrings, other bare strings, and the descriptions of fields."""

    def generic_visit(self, node: Any) -> Any:
        super().generic_visit(node)
        if isinstance(getattr(node, "body", None), list) and not isinstance(node, ast.Module):
            node.body = [n for n in node.body if not isinstance(n, ast.Pass)] or [ast.Pass()]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [k for k in node.keywords if k.arg != "description"]
        return self.generic_visit(node)


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


def _bound(node: ast.stmt) -> set[str]:
    """The top-level names that a statement binds."""
    if isinstance(node, DEFINITIONS):
        return {node.name}
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for n in ast.walk(node):
        if isinstance(n, IMPORTS):
            names |= {a.asname or a.name.split(".")[0] for a in n.names}
        elif isinstance(n, DEFINITIONS):
            names.add(n.name)
    return names - {"*"}


def _singles(node: ast.stmt) -> list[ast.stmt]:
    """An import of several names as one statement each: a name added to it concerns only its users."""
    if isinstance(node, ast.Import):
        return [ast.copy_location(ast.Import([a]), node) for a in node.names]
    if isinstance(node, ast.ImportFrom):
        return [ast.copy_location(ast.ImportFrom(node.module, [a], node.level), node) for a in node.names]
    return [node]


def _names(tree: ast.AST) -> Iterator[ast.Name]:
    """The names that are read, in annotations that are strings too."""
    for n in ast.walk(tree):
        if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store):
            yield n
        for note in (getattr(n, "annotation", None), getattr(n, "returns", None)):
            yield from (ast.Name(word, ast.Load()) for word in _quoted(note))


def _is_literal(note: ast.AST | None) -> TypeGuard[ast.Subscript]:
    return isinstance(note, ast.Subscript) and ast.unparse(note.value).endswith("Literal")


def _quoted(note: ast.AST | None) -> Iterator[str]:
    """The names in an annotation that is a string, or has one in it; the values of a Literal are not names."""
    if isinstance(note, ast.Constant) and isinstance(note.value, str):
        yield from re.findall(r"[^\W\d]\w*", note.value)
    elif isinstance(note, ast.AST) and not _is_literal(note):
        for child in ast.iter_child_nodes(note):
            yield from _quoted(child)


@dataclass(eq=False)
class Statement:
    """A top-level statement of one of our modules, without its prose."""

    module: "Module"
    node: ast.stmt

    @cached_property
    def text(self) -> str:
        return ast.dump(self.node)

    @cached_property
    def reads(self) -> frozenset[str]:
        return frozenset(n.id for n in _names(self.node))

    @cached_property
    def libraries(self) -> frozenset[str]:
        """The top-level packages that it imports."""
        found = set()
        for n in ast.walk(self.node):
            if isinstance(n, ast.Import):
                found |= {a.name.split(".")[0] for a in n.names}
            elif isinstance(n, ast.ImportFrom) and not n.level and n.module:
                found.add(n.module.split(".")[0])
        return frozenset(found)

    @cached_property
    def uses(self) -> list[Target]:
        """What it may use: symbols of its own module and of others."""
        module, found = self.module, []
        if isinstance(self.node, IMPORTS):
            found += [t for name in _bound(self.node) for t in module.imports.get(name, ()) if t[1] is not None]
        for n in ast.walk(self.node):
            if isinstance(n, IMPORTS):
                found += [(origin, "") for origin in module.origins(n)]
        qualified = set()
        for n in ast.walk(self.node):
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name):
                targets = module.imports.get(n.value.id, ())
                if targets and all(symbol is None for _, symbol in targets):
                    found += [_attribute(name, n.attr) for name, _ in targets]
                    if all(isinstance(s.node, IMPORTS) for s in module.definitions.get(n.value.id, ())):
                        qualified.add(id(n.value))
        for name in (n.id for n in _names(self.node) if id(n) not in qualified):
            found += module.imports.get(name, ())
            if name in module.definitions:
                found.append((module.name, name))
            elif name in REFLECTION:
                found.append((module.name, None))
        return list(dict.fromkeys(found))

    @property
    def acts(self) -> bool:
        """Whether it does something besides binding its names."""
        node = self.node
        if isinstance(node, IMPORTS):
            return not _bound(node) & self.module.reads and not self.module.origins(node)
        if isinstance(node, DEFINITIONS):
            return any(self.module.owns(_root(d)) for d in node.decorator_list)
        if isinstance(node, ASSIGNMENTS):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return not all(isinstance(t, ast.Name | ast.Tuple | ast.List) for t in targets)
        if isinstance(node, BLOCKS):
            inner = [n for n in ast.walk(node) if isinstance(n, ast.stmt) and n is not node]
            return any(not isinstance(n, IMPORTS | ast.Pass) and Statement(self.module, n).acts for n in inner)
        return True


def _root(node: ast.AST) -> str:
    """`a` of `a.b(…).c`."""
    while not isinstance(node, ast.Name):
        below = getattr(node, "func", None) or getattr(node, "value", None)
        if below is None:
            return ""
        node = below
    return node.id


def _attribute(module: str, name: str) -> Target:
    inner = f"{module}.{name}"
    return (inner, None) if module_file(inner) else (module, name)


@dataclass(eq=False)
class Module:
    """The statements of one of our modules, by the top-level names that they bind."""

    name: str
    package: bool
    definitions: dict[str, list[Statement]] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    main: list[Statement] = field(default_factory=list)
    imports: dict[str, list[Target]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def origin(self, node: ast.ImportFrom) -> str:
        """The absolute name of the module that `from … import` reads."""
        if not node.level:
            return node.module or ""
        base = self.name.split(".")
        base = base[: len(base) - node.level + self.package]
        return ".".join([*base, *([node.module] if node.module else [])])

    def origins(self, node: ast.Import | ast.ImportFrom) -> list[str]:
        """Our modules that this statement imports."""
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        else:
            names = [self.origin(node), *(f"{self.origin(node)}.{a.name}" for a in node.names)]
        return [name for name in names if module_file(name)]

    def add_imports(self, tree: ast.AST) -> None:
        """Note what the names that are imported anywhere in it stand for."""
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and module_file(self.origin(node)):
                for alias in node.names:
                    if alias.name == "*":
                        self.stars.append(self.origin(node))
                    else:
                        target = _attribute(self.origin(node), alias.name)
                        self.imports.setdefault(alias.asname or alias.name, []).append(target)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if module_file(alias.name):
                        name = alias.asname or alias.name.split(".")[0]
                        self.imports.setdefault(name, []).append((alias.name, None))

    def add(self, node: ast.stmt) -> None:
        statement = Statement(self, node)
        if _is_main(node):
            self.main.append(statement)
            return
        self.statements.append(statement)
        for name in _bound(node):
            self.definitions.setdefault(name, []).append(statement)

    @cached_property
    def reads(self) -> frozenset[str]:
        return frozenset().union(*(s.reads for s in self.statements))

    def owns(self, name: str) -> bool:
        """Whether a name stands for something of ours."""
        return name in self.imports or any(not isinstance(s.node, IMPORTS) for s in self.definitions.get(name, ()))

    @cached_property
    def effects(self) -> list[Statement]:
        return [s for s in self.statements if s.acts]

    @cached_property
    def imported(self) -> list[Target]:
        """What happens as well when it is imported: its package, what it imports in turn, and `import *` of it."""
        parent = self.name.rpartition(".")[0]
        found = [(parent, "")] if module_file(parent) else []
        for n in (n for s in self.statements for n in _run_on_import(s.node)):
            found += [(name, "") for name in self.origins(n)] if isinstance(n, IMPORTS) else []
        return [*found, *((name, None) for name in self.stars)]

    def chosen(self, symbol: str | None) -> list[Statement]:
        """The statements behind a symbol; all of them where the symbol is none that we can see."""
        if symbol == "":
            return self.effects
        if symbol is None or symbol not in self.definitions:
            return [*self.statements, *self.main]
        return [*self.definitions[symbol], *self.effects]


def _run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and what is in it, without the bodies of functions."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _run_on_import(child)


@cache
def _parse(name: str, path: Path, stamp: tuple[int, int]) -> Module:
    tree = _Prose().visit(ast.parse(path.read_text(), str(path)))
    module = Module(name, path.name == "__init__.py")
    module.add_imports(tree)
    for node in (single for statement in tree.body for single in _singles(statement)):
        if not isinstance(node, ast.Pass):
            module.add(node)
    return module


def parse(name: str) -> Module:
    path = module_file(name)
    if path is None:
        raise ModuleNotFoundError(f"{name} is not a module of {ROOT}")
    stat = path.stat()
    return _parse(name, path, (stat.st_mtime_ns, stat.st_size))


def reachable(*roots: Target) -> dict[str, list[Statement]]:
    """Module name -> the statements of it that `roots` depend on, in their order."""
    found: dict[str, set[Statement]] = {}
    modules: dict[str, Module] = {}
    todo, seen = list(roots), set()
    while todo:
        target = todo.pop()
        if target in seen:
            continue
        seen.add(target)
        name, symbol = target
        if name not in modules:
            modules[name], found[name] = parse(name), set()
            todo += [(name, ""), *modules[name].imported]
        todo += [target for target in modules[name].imports.get(symbol or "", ()) if target[1] is None]
        for statement in modules[name].chosen(symbol):
            if statement not in found[name]:
                found[name].add(statement)
                todo += statement.uses
    return {name: _ordered(modules[name], statements) for name, statements in found.items()}


def _ordered(module: Module, statements: Iterable[Statement]) -> list[Statement]:
    chosen = set(statements)
    return [s for s in [*module.statements, *module.main] if s in chosen]


class _Module:
    """One of our modules that a parameter class names: of it is executed what is asked for, as `load` does."""

    def __init__(self, name: str):
        self.name = name.removeprefix(f"{ROOT}.")

    def __getattr__(self, symbol: str):
        return load(self.name, symbol)


def load(module: str, symbol: str):
    """One symbol of `physiglot.<module>`, executed with only what it needs: no torch for a parameter class."""
    name = f"{ROOT}.{module}"
    path = module_file(name) or Path()
    if symbol not in parse(name).definitions:
        raise AttributeError(f"{path} defines no {symbol}")
    lines = {s.node.lineno for s in reachable((name, symbol))[name] if _bound(s.node)}
    namespace = types.ModuleType(f"{name}:{symbol}")
    namespace.__dict__["__package__"] = name.rpartition(".")[0]
    named = {local: origin for local, found in parse(name).imports.items() for origin, inner in found if inner is None}
    namespace.__dict__.update({local: _Module(origin) for local, origin in named.items()})
    sys.modules[namespace.__name__] = namespace
    body = [n for n in ast.parse(path.read_text()).body if n.lineno in lines]
    exec(compile(ast.Module(body, []), str(path), "exec"), namespace.__dict__)
    return getattr(namespace, symbol)


def methods(module: str, owner: str) -> dict[str, ast.arguments]:
    """The methods of a class and their arguments, as they are written there or in our bases of it; nothing is run."""
    parsed = parse(f"{ROOT}.{module}")
    found: dict[str, ast.arguments] = {}
    for node in (s.node for s in parsed.definitions.get(owner, [])):
        if isinstance(node, ast.ClassDef):
            for base in (b.id for b in node.bases if isinstance(b, ast.Name)):
                for origin, symbol in [*parsed.imports.get(base, ()), (parsed.name, base)]:
                    found |= methods(origin.removeprefix(f"{ROOT}."), symbol) if symbol else {}
            found |= {n.name: n.args for n in node.body if isinstance(n, ast.FunctionDef)}
    return found


def required(module: str, owner: str, method: str) -> list[str]:
    """The keyword-only arguments of a method that have no default."""
    given = methods(module, owner).get(method)
    if given is None:
        return []
    return [a.arg for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]


def options(module: str, owner: str, method: str) -> dict[str, list]:
    """The arguments of a method that have a default, and the values that they may have if that is a Literal."""
    given = methods(module, owner).get(method)
    if given is None:
        return {}
    optional = given.args[len(given.args) - len(given.defaults) :]
    optional += [a for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is not None]
    return {a.arg: _literals(a.annotation) for a in optional}


def _literals(note: ast.expr | None) -> list:
    if not _is_literal(note):
        return []
    values = ast.literal_eval(note.slice)
    return list(values) if isinstance(values, tuple) else [values]
