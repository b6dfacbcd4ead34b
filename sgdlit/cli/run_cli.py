"""LightningCLI for ``fit``, ``validate``, ``test`` and ``predict``: from a command line to a checked run.

Model, data, optimizer, scheduler, callbacks and logger come by class path from a config, any value from the
command line. Everything that can be wrong is looked at before the folder of a run is made. Members are built
by ``sgdlit.training.joining``; what is written and said about a run is the business of ``reporting``.
"""

import importlib
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden

from sgdlit.cli import reporting
from sgdlit.cli.run_options import Parser, add_options, configs_first, import_classes
from sgdlit.config.earlier_classes import forget_defaults_of_others
from sgdlit.config.files import read_settings
from sgdlit.config.limits import check_values
from sgdlit.data.keyed_data import KeyedData
from sgdlit.data.members import MembersData
from sgdlit.foundations.console import say, warn
from sgdlit.foundations.errors import UserError, with_allowed
from sgdlit.foundations.threads import share_cores
from sgdlit.runs.folder import CONFIG, checkpoint_path, locked, versions
from sgdlit.runs.metrics_file import check_table
from sgdlit.training.checkpoints import AtomicCheckpointIO, Checkpoints
from sgdlit.training.checks import ChecksRun, check_classes
from sgdlit.training.divergence import DivergenceGuard
from sgdlit.training.lightnings_own import check_processes, keep_true_warnings
from sgdlit.training.logged_once import LoggedOnce
from sgdlit.training.module import Training
from sgdlit.training.progress import StepProgress
from sgdlit.training.ranks import MembersOverRanks
from sgdlit.training.resume import check_same_run, read_checkpoint
from sgdlit.training.seeds import seed_data, seed_initialisation, seed_transform


class RunCLI(LightningCLI):
    """LightningCLI with sgdlit's run folder, callbacks, seeds and checks."""

    def __init__(self, command: str, arguments: list[str]) -> None:
        self._command = command
        self.resumed: Path | None = None
        self.folder: Path | None = None
        self.exit_code = 0
        self._origin: str | None = None  # of the weights, in words
        super().__init__(
            args=[command, *configs_first(self._expand_run(command, arguments))],
            parser_class=Parser,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            trainer_defaults={"num_sanity_val_steps": 0, "enable_model_summary": False},
        )

    def subcommands(self) -> dict[str, set[str]]:
        """The one command that was called: a parser of Lightning's takes long to build."""
        return {self._command: {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_options(parser, self._command)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self._arguments = args[1:]
        read_settings(self._arguments)  # refuses what is wrong with a file, before the parser takes it
        try:
            self.config = self._parsed(parser, args)
        except (UserError, UnicodeDecodeError) as error:
            from sgdlit.config.mistakes import readable
            from sgdlit.training.phases import refuse_composed

            refuse_composed(read_settings(self._arguments).get("model.scheduler"))
            raise UserError(readable(str(error), self._arguments, self._options(args[0]))) from error
        model = self.config[args[0]].get("model")
        if isinstance(model, Namespace):
            forget_defaults_of_others(model, read_settings(self._arguments), "model")
        check_values(self.config[args[0]])
        check_classes(self.config[args[0]].get("model"))

    def _parsed(self, parser: LightningArgumentParser, args: Any) -> Namespace:
        """The config. Classes may go by their bare names: those are imported, or all of them, if need be."""
        try:
            import_classes(set(re.findall(r"\w+", str(read_settings(self._arguments)))))
            return parser.parse_args(args)
        except (UserError, UnicodeDecodeError):
            import_classes(None)
            return parser.parse_args(args)

    def _options(self, command: str) -> dict[str, Any]:
        """The command's own options, for messages about a mistake."""
        from sgdlit.config.options import Option

        classes = {"trainer": Trainer, "model": LightningModule, "data": LightningDataModule}
        classes["checkpoints"] = Checkpoints
        names = {key.split(".")[0] for key, _ in self._parser(command).get_defaults().items()}
        defaults = {"model": Training}
        return {name: Option(classes.get(name), defaults.get(name)) for name in names}

    def _parse_ckpt_path(self) -> None:
        """The config decides what is built; Lightning would let the checkpoint overrule it silently."""

    def _expand_run(self, command: str, arguments: list[str]) -> list[str]:
        """``--resume DIR`` (fit) and ``--run DIR`` (the others) stand for DIR's config and checkpoint."""
        option = "--resume" if command == "fit" else "--run"
        folder, rest = _take_option(option, arguments)
        if folder is None:
            return arguments
        config = Path(folder) / CONFIG
        names = ["resume"] if command == "fit" else ["best", "resume"]
        paths = [checkpoint_path(Path(folder), name) for name in names]
        found = [path for path in paths if path.is_file()]
        if not config.is_file() or not found:
            missing = config if not config.is_file() else paths[-1]
            below = [str(path) for path in versions(Path(folder))]
            problem = (
                f"{option}: {folder!r} is not the folder of a run with a checkpoint: {missing} is missing"
            )
            raise UserError(with_allowed(problem, below))
        self.resumed = Path(folder)
        return ["--config", str(config), "--ckpt_path", str(found[0]), *rest]

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        self._substitute_missing_data(config)
        self._add_measures(self.config[self.subcommand].measures)
        config = self.config[self.subcommand]
        _spell_out_enums(config.trainer.callbacks)
        if not config.ensemble:
            seed_data(config)
            seed_transform(config)

    def _add_measures(self, asked: str | None) -> None:
        """``--measures`` completes the callback that takes measures, or adds one.

        What it adds is in ``config.yaml``, so that a resumed run goes on with it.
        """
        if asked is None:
            return
        if self._command != "fit":
            raise UserError(f"--measures: {self._command} trains nothing to be measured; allowed with: fit")
        from sgdlit.cli.measures import with_measures

        trainer = self.config[self.subcommand].trainer
        changed = {"callbacks": with_measures(trainer.callbacks, asked)}
        self.config = self.parser.parse_object(
            {self.subcommand: {"trainer": changed, "measures": None}}, self.config
        )

    def _substitute_missing_data(self, config: Namespace) -> None:
        data_class = _class_of(config.get("data"))
        if data_class is None or not issubclass(data_class, KeyedData):
            return
        substitute = data_class.substitute(config.data.init_args.as_dict())
        if substitute is not None:
            class_path, init_args, why = substitute
            config.data = None
            self.config = self.parser.parse_object(
                {self.subcommand: {"data": {"class_path": class_path, "init_args": init_args}}}, self.config
            )
            config = self.config[self.subcommand]
            config.name += "_" + class_path.rsplit(".", 1)[-1].lower()
            if rank_zero_only.rank == 0:
                warn(f"{why}; this run is named {config.name!r}")

    def instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        if config.mixing and not config.ensemble:
            raise UserError("mixing: one run has nobody to exchange with; allowed: null, or with an ensemble")
        if config.ensemble:
            from sgdlit.training import joining

            points = joining.points_of(config)
        seed_initialisation(config)
        callbacks = config.trainer.callbacks
        try:
            if isinstance(callbacks, Namespace):  # what one alone refuses jsonargparse hides behind "no list"
                config.trainer.callbacks = [callbacks]
            super().instantiate_classes()
        except Exception as error:
            raise self._explain(error) from error
        finally:
            config.trainer.callbacks = callbacks
        if config.ensemble:
            mixing = self.config_init[self.subcommand].mixing
            self.model, self.datamodule = joining.build(config, points, self._explain, mixing)

    def _explain(self, error: Exception, point: dict[str, Any] | None = None) -> Exception:
        """What a class refused when it was built, for one run or for a member; ``error`` if it is a fault of
        the program."""
        from sgdlit.config.mistakes import building_error

        refusal = building_error(error, self._arguments, self._options(self.subcommand))
        if refusal is None or point is None:
            return refusal or error
        words = ", ".join(f"{key}: {value}" for key, value in point.items())
        return UserError(f"{refusal}\n(member of the ensemble with {words})")

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        config = self.config_init[self.subcommand].trainer
        given = config.callbacks or []
        given = given if isinstance(given, list) else [given]
        _refuse_two_of_one_name(given)
        own: list[Callback] = [DivergenceGuard()]
        own_bar = any(isinstance(callback, ProgressBar) for callback in given)
        if config.enable_progress_bar is not False and not own_bar:
            own.append(StepProgress())
        if not any(isinstance(callback, Checkpoint) for callback in given):
            kwargs["enable_checkpointing"] = False
        plugins = config.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if config.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            raise UserError(
                f"trainer.accelerator: {config.accelerator!r} is not possible, torch sees no GPU here; "
                "allowed: auto, cpu"
            )
        if config.accelerator == "auto" and torch.backends.mps.is_available():
            config.accelerator = "cpu"  # Apple's GPUs have no float64, which keyed data and exact means need
        if self.config[self.subcommand].ensemble and _processes(config) > 1:
            if config.strategy not in ("auto", "ddp"):
                raise UserError(
                    f"trainer.strategy: {config.strategy} cannot share out an ensemble; allowed: auto, ddp"
                )
            config.strategy = MembersOverRanks()
        share_cores(_processes(config) // config.num_nodes)
        self._loggers = config.logger
        config.callbacks, config.plugins = own + given, [*plugins, AtomicCheckpointIO()]
        config.logger = False
        return super().instantiate_trainer(**kwargs)

    def after_instantiate_classes(self) -> None:
        check_processes(self.trainer)
        keep_true_warnings(isinstance(self.model, Training), self.datamodule)
        self._start_from_weights()
        if isinstance(self.datamodule, KeyedData | MembersData):
            self.datamodule.check(self.trainer)
        if isinstance(self.model, Training):
            self.model.check(self.trainer, self.datamodule)
        self._check_data_is_given()
        if self.subcommand == "fit":
            self._check_callbacks()
        if self.subcommand == "fit" and self.config.fit.figure is not None:
            from sgdlit.figures.of_a_run import picture

            picture(self.config.fit.figure)  # refuses one that there is not
        # Lightning would load a checkpoint first and convert then, and lose the digits of float64.
        self.trainer.precision_plugin.convert_module(self.model)
        path = self.config[self.subcommand].get("ckpt_path")
        self._step, self._left = 0, None
        if path is not None:
            resuming = self.subcommand == "fit"
            content = read_checkpoint(Path(path), self.model, to_go_on=resuming)
            self._step = int(content["global_step"])
            if resuming:
                check_same_run(content, self.model, self.datamodule)
            if resuming and self.resumed is not None:
                self._left = reporting.Left.of(content)
                check_table(self.resumed, self._left.rows, content.get("sgdlit_table"))

    def _start_from_weights(self) -> None:
        """Take over the weights of another run, unless this run goes on from where it stood."""
        config = self.config[self.subcommand]
        if self._command != "fit" or config.get("ckpt_path") is not None:
            return
        if config.init_from is None:
            given = next((k for k in ("init_fresh", "init_member") if config[k] is not None), None)
            if given is not None:
                raise UserError(
                    f"{given}: {config[given]} without init_from; allowed: with the folder of a run"
                )
            return
        from sgdlit.training.starting import start_from

        if not isinstance(self.model, Training):
            raise UserError(
                f"init_from: {type(self.model).__name__} loads its weights itself; allowed with "
                "sgdlit.training.module.Training"
            )
        fresh = config.init_fresh or []
        fresh = [fresh] if isinstance(fresh, str) else fresh
        networks = [member.network for member in self.model.members]
        self._origin = start_from(networks, config.init_from, fresh, config.init_member)

    def _check_callbacks(self) -> None:
        for callback in self.trainer.callbacks:
            if isinstance(callback, ChecksRun):
                callback.check(self.trainer, self.model, self.datamodule)

    def _check_data_is_given(self) -> None:
        stage = {"fit": "train", "validate": "val"}.get(self.subcommand, self.subcommand)
        loader = f"{stage}_dataloader"
        # ``data: {}`` builds the base class, which has none.
        has_none = type(self.datamodule) in (type(None), LightningDataModule)
        if has_none and getattr(type(self.model), loader) is getattr(LightningModule, loader):
            raise UserError(
                f"data: missing, and {type(self.model).__name__} has no {loader} of its own; give "
                "--data CLASS or a config that names data, such as those in configs/"
            )

    def before_fit(self) -> None:
        LoggedOnce(self.trainer, self.model)
        self.keeper = next(c for c in self.trainer.callbacks if isinstance(c, Checkpoints))
        self.trainer.loggers = [DummyLogger()]  # other ranks, too, may have callbacks that ask for a logger
        if self.trainer.fast_dev_run:
            self.trainer.callbacks.remove(self.keeper)
        elif self.trainer.is_global_zero:
            named = reporting.begin_loggers(self._loggers, self.config.fit)
            self.folder = self.keeper.folder = reporting.open_folder(self.config.fit, self.resumed)
            self._until_the_end.enter_context(locked(self.folder))
            given = self._loggers, named, self._left, self.config.fit
            self.trainer.loggers = reporting.loggers(self.folder, *given)
            text = self._parser("fit").dump(self.config.fit, skip_none=False)
            reporting.begin(self.folder, text, self._step, self.model, self.trainer)
            if self._origin is not None:
                say(self._origin)

    def after_fit(self) -> None:
        if self.folder is not None:
            guard = next(c for c in self.trainer.callbacks if isinstance(c, DivergenceGuard))
            self.exit_code = reporting.end(
                self.folder, self.model, self.trainer, guard, self.keeper.stopped_by, self.config.fit
            )

    def after_test(self) -> None:
        self._say_evaluated("test")

    def after_validate(self) -> None:
        self._say_evaluated("validate")

    def _say_evaluated(self, command: str) -> None:
        if self.trainer.is_global_zero:
            path = self.config[self.subcommand].ckpt_path or "no checkpoint"
            source = f"{path} (step {self._step})"
            reporting.evaluated(command, source, self.resumed, self.model, self.trainer)

    def _run_subcommand(self, subcommand: str) -> None:
        with ExitStack() as self._until_the_end:
            super()._run_subcommand(subcommand)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if "verbose" in kwargs:
            kwargs["verbose"] = False  # the closing line says it
        return kwargs

    def predict(self, model: Any, datamodule: Any = None, **kwargs: Any) -> None:
        reporting.check_prediction(model, self.trainer)
        if self.config.predict.ckpt_path is None:
            warn("ckpt_path: none is given, so the network predicts as it was initialised; give --run DIR")
        kwargs.pop("return_predictions", None)
        batches = self.trainer.predict(model, datamodule=datamodule, **kwargs)
        reporting.predicted(torch.cat(batches), self.resumed or Path())


def _take_option(option: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    for i, argument in enumerate(arguments):
        if argument == option:
            if i + 1 == len(arguments):
                raise UserError(f"{option}: the folder of a run is missing")
            return arguments[i + 1], arguments[:i] + arguments[i + 2 :]
        if argument.startswith(option + "="):
            return argument[len(option) + 1 :], arguments[:i] + arguments[i + 1 :]
    return None, arguments


def _spell_out_enums(callbacks: Any) -> None:
    """Put the text of an enum in its place, where an option that takes text has one as its default."""
    for callback in callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []:
        arguments = callback.get("init_args") or {}
        for name, value in arguments.items():
            if isinstance(value, Enum) and isinstance(value, str):
                arguments[name] = value.value


def _refuse_two_of_one_name(callbacks: Sequence[Callback]) -> None:
    """A checkpoint keeps the states of callbacks by name; Lightning's words name no key."""
    keeps = [one for one in callbacks if is_overridden("state_dict", one, Callback)]
    for name, count in Counter(one.state_key for one in keeps).items():
        if count > 1:
            cls = next(type(one) for one in keeps if one.state_key == name).__name__
            way_out = "one Measures, with all measures" if cls == "Measures" else f"one {cls}"
            raise UserError(f"trainer.callbacks: {cls} stands there {count} times; allowed: {way_out}")


def _processes(trainer: Namespace) -> int:
    """How many processes a trainer's settings ask for."""
    devices = trainer.devices
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if devices in ("auto", -1):
        gpus = torch.cuda.device_count() if trainer.accelerator != "cpu" else 0
        return trainer.num_nodes * max(1, gpus)
    return trainer.num_nodes * (devices if isinstance(devices, int) else len(devices))


def _class_of(config: Namespace | None) -> type | None:
    if not config or not config.get("class_path"):
        return None
    module, name = config.class_path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)
