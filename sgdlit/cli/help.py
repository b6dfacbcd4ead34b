"""What matters of ``fit``, ``validate``, ``test`` and ``predict`` on one screen; all is in ``--help all``.

It is written by hand, so that it costs no import: the options of classes are hundreds, and few are asked for.
"""

import itertools
from collections.abc import Sequence

_FIT = """usage: python -m sgdlit fit --config CONFIG [--config CONFIG ...] [--KEY VALUE ...]
       python -m sgdlit fit --resume logs/NAME/version_K [--KEY VALUE ...]

Train one run, or an ensemble of runs. CONFIG is a YAML file, or the name of one that comes along
(python -m sgdlit configs lists them); of several the later ones overrule. Every key of a config is an option,
without init_args: --model.optimizer.lr 0.05. A class goes by its path, or if it is sgdlit's by its name.

the run
  --name NAME                      kept in logs/NAME/version_K (default: run)
  --logs DIR                       instead of logs
  --seed_everything N              seed of everything (default: 0); --init_seed N: of the initialisation alone
  --resume DIR                     go on with the run in this folder
  --init_from DIR                  begin with the weights of that run; --init_fresh NAME: but for these
  --figure NAME                    draw a picture of the run when it ends: run_curves, measures, sensing, ...
  --quiet                          say nothing but warnings and mistakes
  --print_config                   show all values, also the defaults, and stop

what is trained
  --model.network CLASS            MLP, WideResNet, ... or any nn.Module; then --model.network.widths ...
  --model.loss LOSS                cross_entropy, half_squared_error, ... or a class
  --model.optimizer CLASS          torch.optim.SGD, ...; then --model.optimizer.lr 0.1 and its others
  --model.scheduler CLASS          torch.optim.lr_scheduler.CosineAnnealingLR, ..., or Phases: counts steps
  --model.reg_strength L           λ of the explicit regularizer λ/4 · |gradient|² (default: 0), or a schedule
  --model.engine ENGINE            how steps are taken: auto, loop, stacked, ...: speed alone

on which data
  --data CLASS                     FashionMNIST, CIFAR10, Shapes, MLPTeacher, ... or any LightningDataModule
  --data.batch_size B              examples of a step
  --data.order CLASS               which examples a step sees; --data.repeats N: each minibatch N times
  --data.train_size N              only so many examples; --data.val_size N: set aside for validation
  --data.label_errors CLASS        SymmetricErrors, DirectedErrors; --data.corruption CLASS: of inputs

how long, and where
  --trainer.max_steps N            updates; --trainer.max_epochs N: passes over the data
  --trainer.max_time 00:01:00:00   at most this long, in days:hours:minutes:seconds
  --trainer.accelerator cpu        or gpu; --trainer.devices N: ranks that share each batch
  --trainer.precision bf16-mixed   or 32-true, 64-true
  --trainer.log_every_n_steps N    steps between two rows of metrics.csv
  --trainer.val_check_interval N   steps between evaluations, with --trainer.check_val_every_n_epoch null
  --trainer.callbacks+ CLASS       add one; --trainer.callbacks.OPTION VALUE: of the last
  --trainer.logger CLASS           instead of TensorBoard, such as lightning.pytorch.loggers.WandbLogger
  --checkpoints.every_n_steps N    how much a killed run has to repeat (default: 1000)

several runs at once
  --ensemble "[{KEY: VALUES}]"     one run for each value, all together
  --mixing CLASS                   what members exchange: Gossip, LocalSGD, AsynchronousSGD

measures
  --measures standard              basic, standard or full, or by name: sharpness,trace

more
  fit --help all                   every option of Lightning's Trainer; --data.help CLASS: those of a class
  configs show reference           a config in which every field is explained
  docs/concepts.md                 words, and what is logged of which batch
"""

_OTHERS = """usage: python -m sgdlit {command} --run logs/NAME/version_K [--KEY VALUE ...]
       python -m sgdlit {command} --config CONFIG --ckpt_path FILE [--KEY VALUE ...]

{about}

  --run DIR                        the folder of the run: its config, and its best or else its last checkpoint
  --ckpt_path FILE                 another checkpoint
  --data.KEY VALUE                 other data, such as --data.root DIR
  --trainer.accelerator cpu        or gpu
  --quiet                          say nothing but warnings and mistakes
  --help all                       every option of Lightning's Trainer
"""
_ABOUT = {
    "validate": "Evaluate a run on its validation and test sets; writes validate.json beside it.",
    "test": "Evaluate a run on its test set; writes test.json beside it.",
    "predict": "Predict the classes of the test set; writes predictions.csv beside the run.",
}


def short_help(command: str, arguments: Sequence[str]) -> str | None:
    """The help that these arguments ask for; None where they ask for none, or for all of it."""
    if not {"-h", "--help"} & set(arguments) or asks_for_all(arguments):
        return None
    return _FIT if command == "fit" else _OTHERS.format(command=command, about=_ABOUT[command])


def asks_for_all(arguments: Sequence[str]) -> bool:
    """Whether ``--help all`` is among them."""
    return any(a in ("-h", "--help") and b == "all" for a, b in itertools.pairwise(arguments))
