"""An ensemble over several processes: each trains its own members, and no gradients are exchanged."""

from lightning.pytorch.strategies import DDPStrategy


class MembersOverRanks(DDPStrategy):
    """DDP's processes, launchers and exchanges of metrics, without its average of gradients."""

    def configure_ddp(self) -> None:
        """The module stays as it is: no two ranks train the same parameters."""
