"""What Lightning imports and seldom uses is loaded when it is used.

``import lightning`` loads three things beside torch, which take much of the time until ``fit`` begins:

- ``scipy.signal``: torchmetrics asks whether it has the name ``hamming``, for a package that is seldom there;
- matplotlib: the types in the signatures of torchmetrics' plots;
- ``torch._dynamo``: Lightning asks of a model whether it was compiled. ``torch.optim`` loads it as well, when
  the first optimizer is made, to mark what must not be compiled.

:func:`load_late` lets stand-ins answer these questions while Lightning is imported. They leave afterwards:
whoever imports one of the three later gets the real module. A stand-in that is asked for anything else loads
the real module. It is not repeated that torchmetrics then gives ``scipy.signal`` the name ``hamming``, which
SciPy took away and only the package SRMRpy looks for.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

_DYNAMO, _PLOTS, _SIGNAL = "torch._dynamo", "torchmetrics.utilities.plot", "scipy.signal"


def load_late() -> None:
    """From now on ``import lightning`` leaves out what it does not use; nothing changes where it is there."""
    if not any(name in sys.modules for name in ("lightning", "torchmetrics")):
        _Finder.once("lightning", _stand_ins)


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Stand-ins for what is not imported yet, until the end of the context."""
    import torch

    marked: list[Callable[..., Any]] = []
    made = [_dynamo(marked), _signal(), _plots()]
    there = [each for each in made if each.__name__ not in sys.modules]
    below = _Below()
    sys.meta_path.insert(0, below)
    sys.modules.update({each.__name__: each for each in there})
    try:
        yield
    finally:
        sys.meta_path.remove(below)
        for each in there:
            each.leave()
    if _PLOTS not in sys.modules:  # as an attribute it is there without an import of its own
        vars(import_module("torchmetrics.utilities"))["plot"] = _plots()
    if _DYNAMO not in sys.modules:
        _leave_unmarked([*marked, *filter(_is_marked_late, vars(torch.optim.Optimizer).values())])


def _dynamo(marked: list[Callable[..., Any]]) -> "_StandIn":
    """What it is asked to mark is marked at its first call, and put into ``marked``."""
    import torch

    def disable(fn: Callable[..., Any], recursive: bool = True, **named: Any) -> Callable[..., Any]:
        marked.append(torch._disable_dynamo(fn, recursive))
        return marked[-1]

    return _StandIn(_DYNAMO, OptimizedModule=_instance_of(_DYNAMO, "OptimizedModule"), disable=disable)


def _signal() -> "_StandIn":
    return _StandIn(_SIGNAL, hamming=lambda *given, **named: None)  # asked whether it is there, never called


def _plots() -> "_StandIn":
    axes = _instance_of("matplotlib.axes", "Axes")
    plots = _StandIn(_PLOTS, _AX_TYPE=axes, _PLOT_OUT_TYPE=object, _CMAP_TYPE=object)
    for name in ("plot_single_or_multi_val", "plot_confusion_matrix", "plot_curve"):
        vars(plots)[name] = _function_of(plots, name)
    return plots


class _StandIn(ModuleType):
    """Answers for a module; for what it does not know it loads the module.

    Args:
        name: of the module.
        known: attributes that it has without loading anything.
    """

    def __init__(self, name: str, **known: Any) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.__path__: list[str] = []  # a module below it is found by _Below
        vars(self).update(known)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # whoever goes through all modules asks for their files
            raise AttributeError(f"{self.__name__} is not loaded yet, and has no {name}")
        return getattr(self.real(), name)

    def real(self) -> ModuleType:
        """The module itself, which takes the place of this one."""
        self.leave()
        return import_module(self.__name__)

    def leave(self) -> None:
        """An import finds the module itself from now on."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


def _instance_of(module: str, name: str) -> type:
    """A class that has the instances of a class of a module; there are none before the module is loaded."""

    def real() -> tuple[type, ...]:
        there = sys.modules.get(module)
        return () if there is None or isinstance(there, _StandIn) else (vars(there)[name],)

    class Asks(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, real())

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, real())

    return Asks(name, (), {"__module__": module})


def _function_of(module: _StandIn, name: str) -> Callable[..., Any]:
    """A function that calls that of the real module."""

    def call(*given: Any, **named: Any) -> Any:
        return vars(module.real())[name](*given, **named)

    call.__name__ = call.__qualname__ = name
    call.__module__ = module.__name__
    return call


class _Finder(MetaPathFinder):
    """Finds one module, once, and has it run within a context.

    Args:
        name: of the module.
        context: entered around its code.
        finally_: called when it has run.
    """

    def __init__(
        self, name: str, context: Callable[[], AbstractContextManager], finally_: Callable[[], None]
    ) -> None:
        self.name, self.context, self.finally_ = name, context, finally_

    @classmethod
    def once(
        cls,
        name: str,
        context: Callable[[], AbstractContextManager] = nullcontext,
        finally_: Callable[[], None] = lambda: None,
    ) -> None:
        """Put one in place, where there is none for this module."""
        if not any(isinstance(each, cls) and each.name == name for each in sys.meta_path):
            sys.meta_path.insert(0, cls(name, context, finally_))

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return spec
        spec.loader = _Loader(spec.loader.name, spec.loader.path)
        spec.loader.finder = self
        return spec


class _Loader(SourceFileLoader):
    """Runs a module within the context of its finder."""

    finder: _Finder

    def exec_module(self, module: ModuleType) -> None:
        with self.finder.context():
            super().exec_module(module)
        self.finder.finally_()


class _Below(MetaPathFinder):
    """Finds modules below one that a stand-in stands in for, which is loaded first."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parent = sys.modules.get(name.rpartition(".")[0])
        if not isinstance(parent, _StandIn):
            return None
        parent = parent.real()
        if name in sys.modules:  # the parent imported it; where it stays there, Python runs it once more
            return ModuleSpec(name, _HandOver(sys.modules.pop(name)))
        return PathFinder.find_spec(name, parent.__path__)


class _HandOver(Loader):
    """Loads a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


def _leave_unmarked(late: Sequence[Any]) -> None:
    """Functions that torch marks at their first call are marked when ``torch._dynamo`` is imported otherwise.

    What ``torch._compile._disable_dynamo`` returns loads it to mark a function against being compiled, and
    keeps the marked one in ``__dynamo_disable``. As long as nothing is compiled the function itself can stand
    there. It goes when ``torch._dynamo`` is imported, and torch marks the function at the next call, as ever.
    """
    name = "__dynamo_disable"
    functions = [each.__wrapped__ for each in late]
    for function in functions:
        vars(function).setdefault(name, function)

    def mark() -> None:
        for function in functions:
            if vars(function).get(name) is function:
                del vars(function)[name]

    _Finder.once(_DYNAMO, finally_=mark)


def _is_marked_late(method: Any) -> bool:
    """Whether it is a function that ``torch._compile._disable_dynamo`` made."""
    if not isinstance(method, FunctionType) or "__wrapped__" not in vars(method):
        return False
    code = method.__code__
    return code.co_name == "inner" and Path(code.co_filename).name == "_compile.py"
