"""Which source a symbol depends on: the part of our own code reachable from it, name by name.

An import closure by module would re-run training when a plotting helper in the same file changes. Here each
top-level definition is a node; a definition depends on the definitions whose names it mentions, across our
own modules. The approximation errs to one side only: a name that might be used counts as used, and statements
at the top of a module that define nothing (they have effects) count for every user of the module.
"""

import ast
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.name


@dataclass
class Module:
    """The syntax of one of our modules, by top-level name."""

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)
    main: list[ast.stmt] = field(default_factory=list)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)


def module_file(name: str) -> Path | None:
    """The file of `physiglot.a.b`, or None if it is not one of our modules."""
    first, *rest = name.split(".")
    if first != ROOT:
        return None
    path = PACKAGE.joinpath(*rest)
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if rest and f.is_file()), None)


class _Docstrings(ast.NodeTransformer):
    """Drops docstrings and other bare strings, which change nothing."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | ast.Pass:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.copy_location(ast.Pass(), node) if text else node


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


def _bound(node: ast.stmt) -> set[str]:
    """The top-level names that a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for n in ast.walk(node):
        if isinstance(n, ast.Import | ast.ImportFrom):
            names |= {a.asname or a.name.split(".")[0] for a in n.names}
    return names


def _singles(node: ast.stmt) -> list[ast.stmt]:
    """An import of several names as one statement each: a name added to it concerns only its users."""
    if isinstance(node, ast.Import):
        return [ast.copy_location(ast.Import([a]), node) for a in node.names]
    if isinstance(node, ast.ImportFrom):
        return [ast.copy_location(ast.ImportFrom(node.module, [a], node.level), node) for a in node.names]
    return [node]


def _origin(module: str, package: bool, node: ast.ImportFrom) -> str:
    """The absolute name of the module that `from … import` reads."""
    if not node.level:
        return node.module or ""
    base = module.split(".")
    base = base[: len(base) - node.level + package]
    return ".".join([*base, *([node.module] if node.module else [])])


def _imports(module: str, tree: ast.AST, package: bool) -> dict[str, tuple[str, str | None]]:
    """Local name -> (module, symbol) of ours; symbol None stands for the module itself."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            origin = _origin(module, package, node)
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                if module_file(inner):
                    found[alias.asname or alias.name] = (inner, None)
                elif module_file(origin):
                    found[alias.asname or alias.name] = (origin, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if module_file(alias.name) and alias.asname:
                    found[alias.asname] = (alias.name, None)
    return found


@cache
def _parse(name: str, path: Path, stamp: tuple[int, int]) -> Module:
    tree = _Docstrings().visit(ast.parse(path.read_text(), str(path)))
    module = Module(name, imports=_imports(name, tree, path.name == "__init__.py"))
    for node in (single for statement in tree.body for single in _singles(statement)):
        if isinstance(node, ast.Pass):
            continue
        bound = _bound(node)
        if _is_main(node):
            module.main.append(node)
        elif not bound:
            module.effects.append(node)
        for symbol in bound if not _is_main(node) else ():
            module.definitions.setdefault(symbol, []).append(node)
    return module


def parse(name: str) -> Module:
    path = module_file(name)
    if path is None:
        raise ModuleNotFoundError(f"{name} is not a module of {ROOT}")
    stat = path.stat()
    return _parse(name, path, (stat.st_mtime_ns, stat.st_size))


def _mentions(module: Module, node: ast.AST) -> Iterator[tuple[str, str | None]]:
    """What `node` may use: symbols of its own module, and (module, symbol) of others; None is all of a module."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (module.imports[name] for name in _bound(node) if name in module.imports)
    qualified = set()
    for n in ast.walk(node):
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name):
            target = module.imports.get(n.value.id)
            if target and target[1] is None:
                inner = f"{target[0]}.{n.attr}"
                yield (inner, None) if module_file(inner) else (target[0], n.attr)
                qualified.add(id(n.value))
    for n in ast.walk(node):
        if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store) and id(n) not in qualified:
            if n.id in module.imports:
                yield module.imports[n.id]
            if n.id in module.definitions:
                yield (module.name, n.id)


def _nodes(module: Module, symbol: str | None) -> list[ast.stmt]:
    if symbol is None:
        return [*(n for nodes in module.definitions.values() for n in nodes), *module.effects, *module.main]
    if symbol in module.definitions:
        return [*module.definitions[symbol], *module.effects]
    return module.effects


def reachable(*roots: tuple[str, str | None]) -> dict[str, list[ast.stmt]]:
    """Module name -> the statements of it that `roots`, pairs (module, symbol or None for all), depend on."""
    found: dict[str, dict[int, ast.stmt]] = {}
    seen: set[tuple[str, str | None]] = set()
    todo = list(roots)
    while todo:
        target = todo.pop()
        if target in seen:
            continue
        seen.add(target)
        module = parse(target[0])
        parent = target[0].rpartition(".")[0]
        if parent != ROOT and module_file(parent):
            todo.append((parent, ""))
        for node in _nodes(module, target[1]):
            if id(node) not in found.setdefault(target[0], {}):
                found[target[0]][id(node)] = node
                todo.extend(_mentions(module, node))
    return {name: list(nodes.values()) for name, nodes in found.items()}


def load(module: str, symbol: str):
    """One symbol of `physiglot.<module>`, executed with only what it needs: no torch for a parameter class."""
    name = f"{ROOT}.{module}"
    nodes = {id(n) for n in reachable((name, symbol)).get(name, [])}
    tree = ast.parse((module_file(name) or Path()).read_text())
    source = parse(name)
    wanted = [n for nodes_ in source.definitions.values() for n in nodes_ if id(n) in nodes]
    lines = {n.lineno for n in wanted}
    namespace = types.ModuleType(f"{name}:{symbol}")
    namespace.__dict__["__package__"] = name.rpartition(".")[0]
    sys.modules[namespace.__name__] = namespace
    body = [n for n in tree.body if n.lineno in lines]
    exec(compile(ast.Module(body, []), str(module_file(name)), "exec"), namespace.__dict__)
    if not hasattr(namespace, symbol):
        raise AttributeError(f"{name} defines no {symbol}")
    return getattr(namespace, symbol)
