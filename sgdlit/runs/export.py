"""A member of an ensemble as the folder of an ordinary run that was trained alone.

The folder has the member's own config, checkpoint, table, charts and status, so that ``test --run``,
``predict --run`` and ``fit --resume`` take it like any other.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sgdlit.config.axes import Point, namespace
from sgdlit.config.keys import settings_of_run
from sgdlit.config.limits import check_run_name
from sgdlit.foundations.errors import UserError
from sgdlit.foundations.files import read_table, write_table
from sgdlit.runs import folder as folders
from sgdlit.runs.metrics_file import seal_of
from sgdlit.runs.outcomes import Outcome
from sgdlit.runs.reading import Run

if TYPE_CHECKING:
    from jsonargparse import Namespace

_DATA = "MembersData"  # under which a checkpoint keeps what the data of all members had given out


def export_member(
    run: Run, k: int, logs: Path, member_config: "Callable[[Namespace, Point], Namespace]"
) -> Path:
    """Write the folder ``logs/NAME_member_K/version_0``, or the next free one.

    Args:
        run: the ensemble.
        k: number of the member.
        logs: folder in which runs are kept.
        member_config: from the config of the ensemble and the point of a member to the member's own config.

    Raises:
        UserError: the run is no ensemble, or the member does not exist or has diverged.
    """
    from sgdlit.runs.checkpoint_files import PARTS_TO_GO_ON, load_checkpoint, save_checkpoint

    member = _checked_member(run, k)
    check_run_name(run.config["name"])
    content = load_checkpoint(folders.checkpoint_path(run.folder, "resume"), PARTS_TO_GO_ON)
    rows = read_table(run.folder / folders.METRICS)
    written = sum(row["member"] == str(k) for row in rows[: content["sgdlit_rows"]])
    own = [row for row in rows if row["member"] == str(k)]
    target = folders.make_next(logs, f"{run.config['name']}_member_{k}")
    config = member_config(namespace(run.config), member.point).as_dict() | {"name": target.parent.name}
    folders.write_config(target, yaml.safe_dump(config, sort_keys=False), step=0)
    columns = _columns_with_values(own)
    write_table(target / folders.METRICS, own, columns)
    folders.write_status(target, member.state, member.step, **member.reached)
    seal = seal_of([{name: row[name] for name in columns} for row in own[:written]])
    checkpoint = member_checkpoint(content, k) | {"sgdlit_rows": written, "sgdlit_table": seal}
    if "sgdlit_charts" in content:  # the ensemble had TensorBoard's
        checkpoint["sgdlit_charts"] = _write_charts(target, config, own, written, member.reached)
    save_checkpoint(checkpoint, folders.checkpoint_path(target, "resume"))
    return target


def _checked_member(run: Run, k: int) -> Outcome:
    """How the member ended."""
    files = [run.folder / name for name in (folders.CONFIG, folders.STATUS, folders.METRICS)]
    files.append(folders.checkpoint_path(run.folder, "resume"))
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise UserError(
            f"run: {str(run.folder)!r} is not the folder of a run with a checkpoint: {missing} is missing"
        )
    if "members" not in run.status:
        raise UserError(f"run: {str(run.folder)!r} is a single run, or is not over; nothing to export")
    k = run.checked_member(k)
    if run.members[k].state == "diverged":
        raise UserError(f"member: {k} diverged at step {run.members[k].step}; allowed: members that did not")
    return run.members[k]


def _write_charts(
    target: Path, config: dict[str, Any], rows: list[dict[str, str]], written: int, reached: dict[str, float]
) -> dict[str, Any]:
    """TensorBoard's events of the member's rows; the state of its charts after as many as were ``written``
    when the checkpoint was made."""
    from sgdlit.runs.charts import Charts

    charts = Charts(target, settings_of_run(config))
    state = charts.state
    for count, row in enumerate(rows, 1):
        numbers = {name: float(text) for name, text in row.items() if text and name not in ("step", "member")}
        charts.log_metrics(numbers, int(row["step"]))
        state = charts.state if count == written else state
    charts.end(reached)
    charts.finalize("success")
    return state


def _columns_with_values(rows: list[dict[str, str]]) -> list[str]:
    """The columns that a run of its own has a use for."""
    used = [name for name in (rows[0] if rows else ()) if name != "member" and any(row[name] for row in rows)]
    return used or ["step"]


def member_checkpoint(content: dict[str, Any], k: int) -> dict[str, Any]:
    """What the checkpoint of member k would be if it had been trained alone, from that of its ensemble."""
    from sgdlit.runs.checkpoint_files import member_prefix, network_state

    data = content[_DATA]["members"][k]
    own = {
        "state_dict": {
            member_prefix(0) + name: value.clone() for name, value in network_state(content, k).items()
        },
        "optimizer_states": content["optimizer_states"][k : k + 1],
        "lr_schedulers": content["lr_schedulers"][k : k + 1],
        "callbacks": {name: _of_member(state, k) for name, state in content["callbacks"].items()},
        "sgdlit_best": content["sgdlit_best"][k : k + 1],
        "sgdlit_transforms": content["sgdlit_transforms"][k : k + 1],
        "sgdlit_optimizers": content["sgdlit_optimizers"][k : k + 1],
        data["class"]: data,
    }
    return {name: part for name, part in content.items() if name != _DATA} | own


def _of_member(state: dict[str, Any], k: int) -> dict[str, Any]:
    """A callback's state, of which what it keeps by member is named ``members``."""
    if "members" not in state:
        return state
    return state | {"members": [state["members"][k]]}
