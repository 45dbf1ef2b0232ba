"""The fingerprint of code: what it has to notice, what it must not, on a package made for the purpose."""

import subprocess
import sys
import textwrap

import pytest

from physiglot import fingerprint, symbols

FILES = {
    "__init__.py": '"""The package."""',
    "main.py": """
        import numpy as np

        from . import helpers
        from .helpers import scale, unused
        from .parts import exported

        LIMIT = 3
        OTHER = 4


        class Base:
            def shared(self):
                return inner()


        class Derived(Base):
            def own(self):
                return LIMIT


        def inner():
            return 1


        def lonely():
            return OTHER


        def run(x, count=LIMIT):
            \"\"\"Runs.\"\"\"
            from .late import nested

            y = scale(x)  # the scaled one
            return nested(helpers.shift(y)) + exported() + Derived().own() + np.sum(x)


        if __name__ == "__main__":
            run(1)
    """,
    "helpers.py": """
        import scipy


        def scale(x):
            return deep(x)


        def deep(x):
            return x


        def shift(x):
            return x


        def unused(x):
            return scipy.special.gamma(x)
    """,
    "late.py": """
        def nested(x):
            return x
    """,
    "parts/__init__.py": """
        from .first import exported
        from .second import other
    """,
    "parts/first.py": """
        def exported():
            return 1
    """,
    "parts/second.py": """
        def other():
            return 1
    """,
}
LOCKED = "numpy==2.2.0\nscipy==1.15.0\nPyYAML==6.0\n"


class Package:
    """A package on disk that stands in for physiglot."""

    def __init__(self, folder):
        self.folder = folder
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        symbols._parse.cache_clear()

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def code(self, *entries: str) -> str:
        return fingerprint.code(*(entries or ["main:run"]))

    def changes(self, name: str, old: str, new: str, *entries: str) -> bool:
        """Whether the replacement changes the fingerprint of the entries."""
        before = self.code(*entries)
        self.replace(name, old, new)
        return self.code(*entries) != before

    def sees(self, main: str, helpers: str, old: str, new: str) -> bool:
        """Whether `run` of this main.py notices a change in this helpers.py."""
        self.write("main.py", main)
        self.write("helpers.py", helpers)
        return self.changes("helpers.py", old, new)


@pytest.fixture
def package(tmp_path, monkeypatch) -> Package:
    folder = tmp_path / "sample"
    lock = tmp_path / "requirements.lock"
    lock.write_text(LOCKED)
    monkeypatch.setattr(symbols, "PACKAGE", folder)
    monkeypatch.setattr(symbols, "ROOT", "sample")
    monkeypatch.setattr(fingerprint, "ROOT", "sample")
    monkeypatch.setattr(fingerprint, "LOCK", lock)
    fingerprint._locked.cache_clear()
    yield Package(folder)
    symbols._parse.cache_clear()
    fingerprint._locked.cache_clear()


# --- what changes nothing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("main.py", "  # the scaled one", ""),
        ("main.py", '"""Runs."""', '"""Runs far."""'),
        ("main.py", '    """Runs."""\n', ""),
        ("main.py", "def inner():\n", 'def inner():\n    """New."""\n'),
        ("main.py", "    def shared(self):\n", '    """A class."""\n\n    def shared(self):\n'),
        ("main.py", "    return 1\n", "    return (\n        1\n    )\n"),
        ("main.py", "import numpy as np\n", '"""A module."""\n\nimport numpy as np\n'),
        ("main.py", "from .helpers import scale, unused", "from .helpers import scale"),
        ("main.py", "from .helpers import scale, unused", "from .helpers import unused\nfrom .helpers import scale"),
        ("main.py", "return OTHER", "return OTHER + 1"),
        ("main.py", "OTHER = 4", "OTHER = 5"),
        ("main.py", "def lonely", "def lonelier"),
        ("main.py", "    run(1)", "    run(2)"),
        ("helpers.py", "gamma(x)", "beta(x)"),
        ("parts/second.py", "return 1", "return 2"),
    ],
)
def test_what_does_not_matter_is_not_noticed(package, name, old, new):
    assert not package.changes(name, old, new)


def test_the_order_of_definitions_does_not_matter(package):
    text = (package.folder / "helpers.py").read_text()
    first, *rest = text.split("\n\n\n")
    before = package.code()
    package.write("helpers.py", "\n\n\n".join([first.strip(), *reversed([r.strip() for r in rest])]))
    assert package.code() == before


def test_the_description_of_a_field_does_not_matter(package):
    package.write(
        "params.py", "from pydantic import Field\n\n\nclass Params:\n    a: int = Field(1, ge=0, description='x')\n"
    )
    assert not package.changes("params.py", "description='x'", "description='y'", "params:Params")
    assert package.changes("params.py", "ge=0", "ge=1", "params:Params")


def test_a_field_named_like_an_import_is_no_use_of_it(package):
    text = "from . import helpers\n\n\nclass Params:\n    helpers: int = 1\n"
    package.write("params.py", text)
    assert not package.changes("helpers.py", "return x", "return -x", "params:Params")


# --- what has to be noticed --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("main.py", "y = scale(x)", "y = scale(2 * x)", id="itself"),
        pytest.param("helpers.py", "return deep(x)", "return deep(-x)", id="imported"),
        pytest.param("helpers.py", "def deep(x):\n    return x", "def deep(x):\n    return -x", id="what it calls"),
        pytest.param("helpers.py", "def shift(x):\n    return x", "def shift(x):\n    return -x", id="module alias"),
        pytest.param("late.py", "return x", "return -x", id="import in a function"),
        pytest.param("parts/first.py", "return 1", "return 2", id="re-export"),
        pytest.param("main.py", "    return 1", "    return 2", id="base class"),
        pytest.param("main.py", "LIMIT = 3", "LIMIT = 5", id="constant and default"),
        pytest.param("main.py", "class Derived(Base)", "class Derived", id="inheritance"),
        pytest.param("main.py", "import numpy as np", "import torch as np", id="another library"),
    ],
)
def test_what_matters_is_noticed(package, name, old, new):
    assert package.changes(name, old, new)


HELPER = "def f(x=0):\n    return 1\n"
USES = {
    "from": "from .helpers import f\n\n\ndef run():\n    return f()\n",
    "from as": "from .helpers import f as g\n\n\ndef run():\n    return g()\n",
    "module": "from . import helpers\n\n\ndef run():\n    return helpers.f()\n",
    "module as": "from . import helpers as h\n\n\ndef run():\n    return h.f()\n",
    "absolute": "import sample.helpers\n\n\ndef run():\n    return sample.helpers.f()\n",
    "absolute as": "import sample.helpers as h\n\n\ndef run():\n    return h.f()\n",
    "absolute from": "from sample.helpers import f\n\n\ndef run():\n    return f()\n",
    "star": "from .helpers import *\n\n\ndef run():\n    return f()\n",
    "in a function": "def run():\n    from . import helpers\n\n    return helpers.f()\n",
    "by name": "from . import helpers\n\n\ndef run():\n    return getattr(helpers, 'f')()\n",
    "passed on": "from . import helpers\n\n\ndef run():\n    return list(map(helpers.f, [1]))\n",
    "alias": "from .helpers import f\n\ng = f\n\n\ndef run():\n    return g()\n",
    "decorator": "from .helpers import f\n\n\n@f\ndef run():\n    return 1\n",
    "decorator of a method": "from . import helpers\n\n\nclass run:\n    @helpers.f\n    def go(self): ...\n",
    "default": "from .helpers import f\n\n\ndef run(x=f()):\n    return x\n",
    "base": "from . import helpers\n\n\nclass run(helpers.f):\n    pass\n",
    "annotation": "from .helpers import f\n\n\nclass run:\n    x: f = 1\n",
    "quoted annotation": "from .helpers import f\n\n\nclass run:\n    x: 'list[f]' = 1\n",
    "table": "from .helpers import f\n\nTABLE = {'f': f}\n\n\ndef run():\n    return TABLE['f']()\n",
    "filled later": "from .helpers import f\n\nT = {}\nT['f'] = f\n\n\ndef run():\n    return T['f']()\n",
    "filled in a loop": "from .helpers import f\nT = []\nfor g in (f,):\n    T.append(g)\n\ndef run():\n    return T\n",
    "comprehension": "from .helpers import f\n\nT = []\n[T.append(g) for g in (f,)]\n\n\ndef run():\n    return T\n",
    "conditional": "try:\n    from .helpers import f\nexcept OSError:\n    f = None\n\ndef run():\n    return f()\n",
    "registered": (
        "from .helpers import f\n\nT = []\n\n\ndef add(g):\n    T.append(g)\n\n\n"
        "@add\ndef g():\n    return f()\n\n\ndef run():\n    return T\n"
    ),
    "globals": "from .helpers import f\n\n\ndef run():\n    return globals()['f']()\n",
    "lambda": "from .helpers import f\n\nrun = lambda: f()\n",
    "nested function": "from .helpers import f\n\n\ndef run():\n    def g():\n        return f()\n\n    return g()\n",
    "unpacked": "from .helpers import f\n\na, b = f(), 2\n\n\ndef run():\n    return b + a\n",
    "augmented": "from .helpers import f\n\nT = []\nT += [f]\n\n\ndef run():\n    return T\n",
    "two of a name": (
        "def one():\n    from . import helpers as h\n\n    return h.f()\n\n\n"
        "def run():\n    from . import late as h\n\n    return one() + h.nested(1)\n"
    ),
}


@pytest.mark.parametrize("main", USES.values(), ids=USES.keys())
def test_every_way_to_use_something_is_seen(package, main):
    assert package.sees(main, HELPER, "return 1", "return 2")


EFFECTS = {
    "imported": "from . import helpers\n\n\ndef run():\n    return 1\n",
    "imported for that": "from . import helpers  # noqa: F401\n\n\ndef run():\n    return 1\n",
    "in a function": "def run():\n    from . import helpers\n\n    return 1\n",
    "one symbol of it": "from .helpers import f\n\n\ndef run():\n    return f()\n",
}


@pytest.mark.parametrize("main", EFFECTS.values(), ids=EFFECTS.keys())
@pytest.mark.parametrize("effect", ["print(1)", "import os; os.environ['A'] = '1'", "if True:\n    print(1)", "del f"])
def test_what_a_module_does_when_it_is_imported_counts(package, main, effect):
    package.write("main.py", main)
    package.write("helpers.py", HELPER)
    before = package.code()
    package.write("helpers.py", f"{HELPER}\n{effect}\n")
    assert package.code() != before


def test_the_order_of_effects_counts(package):
    package.write("main.py", "T = []\nT.append(1)\nT.append(2)\n\n\ndef run():\n    return T\n")
    assert package.changes("main.py", "T.append(1)\nT.append(2)", "T.append(2)\nT.append(1)")


def test_the_packages_count(package):
    assert package.changes("__init__.py", '"""The package."""', "print(1)")
    assert package.changes("parts/__init__.py", "from .second import other", "from .second import other\nprint(1)")


def test_a_symbol_that_moves_to_another_module_counts(package):
    package.write("other.py", (package.folder / "late.py").read_text())
    assert package.changes("main.py", "from .late import nested", "from .other import nested")


def test_the_whole_module_counts_where_no_symbol_is_named(package):
    assert package.changes("main.py", "    run(1)", "    run(2)", "main")
    assert package.changes("main.py", "return OTHER", "return -OTHER", "main")
    assert not package.changes("helpers.py", "def unused(x):\n", "def unused(x):\n    pass\n", "main:inner")


def test_the_locked_versions_of_its_libraries_count(package):
    before = package.code()
    for version, same in (("scipy==1.16.0", True), ("numpy==2.3.0", False)):
        name = version.split("==")[0]
        lines = [line for line in LOCKED.splitlines() if not line.startswith(name)]
        fingerprint.LOCK.write_text("\n".join([*lines, version]))
        fingerprint._locked.cache_clear()
        assert (package.code() == before) == same


# --- reading without importing -----------------------------------------------------------------


def test_parameters_are_read_without_heavy_imports():
    """What the configuration is checked with imports no torch, numba or matplotlib."""
    program = """
        import sys
        from physiglot import checks
        from physiglot.symbols import PACKAGE
        for kind in ("systems", "models", "tasks"):
            for path in (PACKAGE / kind).glob("*.py"):
                if path.stem != "__init__":
                    checks.params_of(kind, path.stem, "")
        print(*{"torch", "numba", "matplotlib", "scipy", "zarr", "dask"} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_is_read_of_a_method(package):
    package.write(
        "params.py",
        "class Model:\n    def __init__(self, a, *, e, m=1): ...\n"
        "    def predict(self, x, n, how: Literal['a', 'b'] = 'a', *, far=1): ...\n",
    )
    assert symbols.options("params", "Model", "predict") == {"how": ["a", "b"], "far": []}
    assert symbols.required("params", "Model", "__init__") == ["e"]
    assert set(symbols.methods("params", "Model")) == {"__init__", "predict"}
    assert symbols.options("params", "Model", "nothing") == {}


def test_a_constant_is_read(package):
    assert fingerprint.constant("main", "LIMIT") == 3


def test_a_parameter_class_may_name_that_of_another_module():
    """The field `law` of field_transformer is `local_law.Params`; nothing heavy is imported for it."""
    text = (
        "import sys; from physiglot import symbols; P = symbols.load('models.field_transformer', 'Params');"
        "assert P(law={'degree': 2}).law.degree == 2 and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
