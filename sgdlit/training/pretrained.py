"""A network that begins where a run has ended, to be trained on."""

from pathlib import Path

from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.runs.reading import load_run


class Pretrained(nn.Module):
    """The network of a run, with the parameters of its best checkpoint; its last one without validation.

    Inside :class:`sgdlit.models.frozen.Frozen` some of its parameters stay as they are; their names begin
    with ``network``, as in ``network.embed``.

    Args:
        run: folder of the run, such as ``logs/NAME/version_0``.
        member: number in the ensemble; 0 for a run trained alone.

    Shapes: as those of the network.

    Raises:
        UserError: no such run, or no checkpoint of it.
    """

    def __init__(self, run: str, member: int = 0) -> None:
        super().__init__()
        if not Path(run).is_dir():
            raise UserError(
                f"run: {run}: there is no such folder; allowed: that of a run, logs/NAME/version_K"
            )
        self.network = load_run(run).network(member=member).train()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)
