"""``python -m sgdlit export``: one member of an ensemble as the folder of an ordinary single run.

The folder has the member's own config, checkpoint, table and status, so that ``test --run``, ``predict
--run`` and ``fit --resume`` take it like any other.
"""

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sgdlit.foundations.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Write the folder and say where it is.

    Raises:
        UserError: the folder is no ensemble's, or the member does not exist or has diverged.
    """
    parser = argparse.ArgumentParser(prog="python -m sgdlit export", description=__doc__.split("\n")[0])
    parser.add_argument("--run", required=True, help="folder of the ensemble: logs/NAME/version_K")
    parser.add_argument("--member", required=True, type=int, help="number of the member, from 0")
    parser.add_argument("--logs", default="logs", help="folder in which the run is kept")
    given = parser.parse_args(list(arguments))
    folder, outcome = _member(Path(given.run), given.member)
    _export(folder, given.member, outcome, Path(given.logs))
    return 0


def _member(folder: Path, k: int) -> tuple[Path, dict[str, Any]]:
    """The ensemble's folder, and how the member ended."""
    files = [folder / name for name in ("config.yaml", "status.json", "metrics.csv")]
    files.append(folder / "checkpoints" / "resume.ckpt")
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise UserError(
            f"run: {str(folder)!r} is not the folder of a run with a checkpoint: {missing} is missing"
        )
    members = json.loads((folder / "status.json").read_text()).get("members")
    if members is None:
        raise UserError(f"run: {str(folder)!r} is a single run, or is not over; nothing to export")
    if not 0 <= k < len(members):
        raise UserError(f"member: {k} does not exist; allowed: 0 to {len(members) - 1}")
    if members[k]["state"] == "diverged":
        raise UserError(f"member: {k} diverged at step {members[k]['step']}; allowed: members that did not")
    return folder, members[k]


def _export(folder: Path, k: int, outcome: dict[str, Any], logs: Path) -> None:
    from sgdlit.foundations.console import say
    from sgdlit.runs import folder as run_folder
    from sgdlit.training.checkpoints import AtomicCheckpointIO
    from sgdlit.training.resume import load_checkpoint

    config = yaml.safe_load((folder / "config.yaml").read_text())
    content = load_checkpoint(folder / "checkpoints" / "resume.ckpt")
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    written = sum(row["member"] == str(k) for row in rows[: content["sgdlit_rows"]])
    target = run_folder.claim(logs, f"{config['name']}_member_{k}")
    run_folder.write_atomically(target / "config.yaml", _config(config, outcome["point"], target.parent.name))
    run_folder.write_atomically(target / "metrics.csv", _table([r for r in rows if r["member"] == str(k)]))
    run_folder.write_status(target, outcome["state"], outcome["step"], **outcome["reached"])
    checkpoint = member_checkpoint(content, k) | {"sgdlit_rows": written}
    AtomicCheckpointIO().save_checkpoint(checkpoint, target / "checkpoints" / "resume.ckpt")
    say(f"member {k} of {folder} at step {checkpoint['global_step']}: written to {target}")


def _config(config: dict[str, Any], point: dict[str, Any], name: str) -> str:
    """The member's own config."""
    from jsonargparse import Namespace

    from sgdlit.training.members_of_config import member_config

    def parsed(value: Any) -> Any:
        return Namespace(**{k: parsed(v) for k, v in value.items()}) if isinstance(value, dict) else value

    own = member_config(parsed(config), point)
    own.name = name
    return yaml.safe_dump(own.as_dict(), sort_keys=False)


def _table(rows: list[dict[str, str]]) -> str:
    """The member's rows, without the columns that it has no use for."""
    used = [
        name for name in (rows[0] if rows else ["step"]) if name != "member" and any(r[name] for r in rows)
    ]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, used, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def member_checkpoint(content: dict[str, Any], k: int) -> dict[str, Any]:
    """What the checkpoint of member k would be if it had been trained alone, from that of its ensemble."""
    prefix = f"members.{k}."
    states = content["state_dict"].items()
    data = content["EnsembleData"]["members"][k]
    own = {
        "state_dict": {n.removeprefix(prefix): v.clone() for n, v in states if n.startswith(prefix)},
        "optimizer_states": content["optimizer_states"][k : k + 1],
        "lr_schedulers": content["lr_schedulers"][k : k + 1],
        "callbacks": {name: _of_member(state, k) for name, state in content["callbacks"].items()},
        "sgdlit_best": content["sgdlit_best"][k],
        data["class"]: data,
    }
    return {name: part for name, part in content.items() if name != "EnsembleData"} | own


def _of_member(state: dict[str, Any], k: int) -> dict[str, Any]:
    """A callback's state, of which what it keeps by member is named ``members``."""
    if "members" not in state:
        return state
    return state | {"members": [state["members"][k]]}
