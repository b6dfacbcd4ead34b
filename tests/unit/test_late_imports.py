"""What Lightning seldom uses is imported when it is used, and is then what it always was."""

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

from sgdlit.foundations import late_imports
from sgdlit.foundations.late_imports import _Below, _Finder, _instance_of, _leave_unmarked, _StandIn

LATE = """
import pickle, sys, types
from sgdlit.foundations.late_imports import load_late
load_late()
import lightning.pytorch, torch
def there(*names): return [name for name in names if name in sys.modules]
late = "torch._dynamo", "scipy.signal", "matplotlib", "torchmetrics.utilities.plot", "sympy"
assert there(*late) == []

# An optimizer and a module are made, asked and pickled without them.
from lightning.fabric.wrappers import OptimizedModule
from torch.optim import SGD, Optimizer
network = torch.nn.Linear(2, 2)
optimizer = SGD(network.parameters(), lr=0.1)
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
assert not isinstance(network, OptimizedModule) and not issubclass(torch.nn.Linear, OptimizedModule)
import torchmetrics
metric = pickle.loads(pickle.dumps(torchmetrics.MeanMetric()))
metric.update(torch.tensor([1.0, 2.0]))
assert float(metric.compute()) == 1.5
assert there(*late) == []

# So is a whole fit, measures included.
import sgdlit
sgdlit.fit("matrix_sensing/simple", {"data.steps": 20, "figure": None, "logs": sys.argv[1]})
assert there(*late) == []

# Each of them is the real module for whoever imports it afterwards.
from scipy import signal
import scipy.signal.windows
assert type(signal) is types.ModuleType and signal is sys.modules["scipy.signal"] is scipy.signal
assert list(signal.convolve([1, 1], [1, 1])) == [1, 2, 1]
assert pickle.loads(pickle.dumps(signal.convolve)) is signal.convolve

figure, axes = torchmetrics.utilities.plot.plot_single_or_multi_val(torch.tensor(1.0))
from matplotlib.axes import Axes
from torchmetrics.collections import _AX_TYPE
assert isinstance(axes, Axes) and isinstance(axes, _AX_TYPE) and not isinstance(figure, _AX_TYPE)
assert metric.plot()[1].lines
assert type(sys.modules["torchmetrics.utilities.plot"]) is types.ModuleType
assert torchmetrics.utilities.plot is sys.modules["torchmetrics.utilities.plot"]

def kept(method): return vars(method.__wrapped__).get("__dynamo_disable")
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection
marked = [getattr(Optimizer, n) for n in ("add_param_group", "zero_grad", "state_dict", "load_state_dict")]
marked += [_ResultCollection.log, _ResultCollection.update_metrics]
assert [kept(method) for method in marked] == [method.__wrapped__ for method in marked]
compiled = torch.compile(network, backend="eager")
import torch._dynamo
assert type(torch._dynamo) is types.ModuleType and torch._dynamo is sys.modules["torch._dynamo"]
assert isinstance(compiled, OptimizedModule) and type(compiled) is torch._dynamo.OptimizedModule
assert [kept(method) for method in marked] == [None] * 6
optimizer.zero_grad()
assert kept(Optimizer.zero_grad)._torchdynamo_disable
assert torch.equal(compiled(torch.ones(2)), network(torch.ones(2)))
print("all of it")
"""


def test_three_modules_are_loaded_when_they_are_used(tmp_path):
    done = subprocess.run([sys.executable, "-c", LATE, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.endswith("all of it\n"), done.stderr


def test_nothing_is_done_where_lightning_is_there_already(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    before = list(sys.meta_path)
    late_imports.load_late()
    assert sys.meta_path == before


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that counts how often it and its module run."""
    folder = tmp_path / "counted"
    folder.mkdir()
    (folder / "__init__.py").write_text("from counted import part\nvalue = part.value\nclass Kind: pass\n")
    (folder / "part.py").write_text("import sys\nsys.runs.append(__name__)\nvalue = 7\n")
    (folder / "other.py").write_text("from counted import value\nsecond = 2 * value\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "runs", [], raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Below(), *sys.meta_path])
    yield "counted"
    for name in [name for name in sys.modules if name.partition(".")[0] == "counted"]:
        del sys.modules[name]


def test_a_stand_in_answers_what_it_knows_and_loads_the_rest(package, monkeypatch):
    stand_in = sys.modules[package] = _StandIn(package, known=1)
    from counted import known

    assert (known, sys.runs) == (1, [])
    assert not hasattr(stand_in, "__file__")  # inspect asks all modules
    assert sys.runs == []
    assert stand_in.value == 7
    assert sys.modules[package] is not stand_in
    assert type(importlib.import_module(package)) is ModuleType
    assert sys.runs == ["counted.part"]


@pytest.mark.parametrize("below", ["part", "other"])
def test_a_module_below_a_stand_in_runs_once(package, below):
    sys.modules[package] = _StandIn(package, known=1)
    module = importlib.import_module(f"{package}.{below}")
    assert sys.runs == ["counted.part"]
    parent = sys.modules[package]
    assert type(parent) is ModuleType
    assert vars(parent)[below] is module is sys.modules[f"{package}.{below}"]
    assert module.__spec__.name == module.__name__
    assert module.__spec__.origin == module.__file__


def test_what_is_an_instance_is_asked_of_the_real_class(package):
    kind = _instance_of(package, "Kind")
    assert not isinstance(1, kind)
    assert sys.runs == []
    real = importlib.import_module(package).Kind
    assert isinstance(real(), kind)
    assert issubclass(real, kind)
    assert not isinstance(1, kind)


def test_a_function_stays_unmarked_until_the_compiler_is_imported(package, monkeypatch):
    def function():
        return 5

    def inner():
        return function()

    inner.__wrapped__ = function
    monkeypatch.setattr(late_imports, "_DYNAMO", package)
    _leave_unmarked([inner])
    assert vars(function) == {"__dynamo_disable": function}
    importlib.import_module(package)
    assert vars(function) == {}
    assert not any(isinstance(each, _Finder) and each.name == package for each in sys.meta_path)
