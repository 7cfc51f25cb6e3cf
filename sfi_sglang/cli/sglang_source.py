"""Names of an SGLang read from its source: no version needs to be installed, imported or fit the packages around it."""

import ast
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
BRANCHES = (ast.If, ast.Try, ast.ExceptHandler, ast.With, ast.For)  # what they bind, they bind around themselves
OWNERS = (ast.Module, ast.ClassDef, *BRANCHES)


class SGLangSource:
    """A wheel, or a folder that `sglang/` stands in."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ValueError: there is no SGLang.
        """
        self.root = zipfile.Path(path) if zipfile.is_zipfile(path) else path
        self.tree = cache(self._tree)
        if self._file("sglang") is None:
            raise ValueError(f"{path}: neither a wheel of SGLang nor a folder with sglang/__init__.py")

    @classmethod
    def installed(cls) -> "SGLangSource":
        """What `import sglang` would import.

        Raises:
            ValueError: nothing.
        """
        spec = find_spec("sglang")
        if spec is None or not spec.origin:
            raise ValueError("SGLang is not installed")
        return cls(Path(spec.origin).parents[1])

    @property
    def version(self) -> str:
        try:
            _, node = self._follow("sglang._version.__version__")
        except LookupError:
            return "of unknown version"  # a checkout
        assert isinstance(node, ast.Assign)
        return str(ast.literal_eval(node.value))

    def parameters(self, target: str) -> str | None:
        """Of the function behind a dotted name, names and kinds alone; None if it is something else.

        Raises:
            LookupError: nothing has that name.
        """
        _, node = self._follow(target)
        return _parameters(node.args) if isinstance(node, Function) else None

    def _follow(self, target: str) -> tuple[str, ast.AST]:
        """The module that binds a name, and the statement."""
        parts = target.split(".")
        depth = next((n for n in range(len(parts), 0, -1) if self._file(".".join(parts[:n]))), 0)
        if not depth:
            raise LookupError(f"no module {parts[0]}")
        module = ".".join(parts[:depth])
        found: tuple[str, ast.AST] = module, self.tree(module)
        for name in parts[depth:]:
            found = self._member(*found, name)
        return found

    def _member(self, module: str, owner: ast.AST, name: str) -> tuple[str, ast.AST]:
        """Of a module or a class, through imports and base classes."""
        nodes = [node for node in _bindings(owner) if name in _names(node)]
        # A definition counts before the assignments that make it anew (ServerArgs) or stand in for it (`except`).
        defined = [node for node in nodes if isinstance(node, Function | ast.ClassDef)]
        node = (defined or nodes or [None])[-1]
        if isinstance(node, ast.ImportFrom):
            (original,) = (alias.name for alias in node.names if name == (alias.asname or alias.name))
            return self._follow(f"{self._origin(module, node)}.{original}")
        if node is not None:
            return module, node
        for base in owner.bases if isinstance(owner, ast.ClassDef) else ():
            try:
                return self._member(*self._follow(f"{module}.{ast.unparse(base)}"), name)
            except LookupError:  # a class of other packages, or not there either
                continue
        raise LookupError(f"{module} has no {name}")

    def _origin(self, module: str, statement: ast.ImportFrom) -> str:
        file = self._file(module)
        package = module if file and file.name == "__init__.py" else module.rpartition(".")[0]
        return resolve_name("." * statement.level + (statement.module or ""), package)

    def _file(self, module: str) -> Path | zipfile.Path | None:
        path = module.replace(".", "/")
        places = (self.root / f"{path}.py", self.root / path / "__init__.py")
        return next((file for file in places if file.is_file()), None)

    def _tree(self, module: str) -> ast.Module:
        file = self._file(module)
        assert file is not None
        return ast.parse(file.read_text(encoding="utf-8"))


def _bindings(owner: ast.AST) -> Iterator[ast.stmt]:
    """Statements of a module or class, those in its branches among them."""
    for node in ast.iter_child_nodes(owner) if isinstance(owner, OWNERS) else ():
        if isinstance(node, BRANCHES):
            yield from _bindings(node)
        elif isinstance(node, ast.stmt):
            yield node


def _names(node: ast.stmt) -> set[str]:
    """That a statement binds; a bare annotation binds none."""
    if isinstance(node, Function | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.Assign) or (isinstance(node, ast.AnnAssign) and node.value):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = (name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
        return {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return set()


def _parameters(args: ast.arguments) -> str:
    only = [arg.arg for arg in args.posonlyargs]
    rest = [f"*{args.vararg.arg}"] if args.vararg else ["*"] if args.kwonlyargs else []
    named = [arg.arg for arg in args.kwonlyargs] + ([f"**{args.kwarg.arg}"] if args.kwarg else [])
    return ", ".join([*only, *(["/"] if only else []), *(arg.arg for arg in args.args), *rest, *named])
