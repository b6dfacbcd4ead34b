"""Runs over several processes: members that are shared out, and a process that is lost."""

from lightning.pytorch.strategies import DDPStrategy


class MembersOverRanks(DDPStrategy):
    """Each process trains its own members of an ensemble.

    It has DDP's processes, launchers and exchanges of metrics, without its average of gradients.
    """

    def configure_ddp(self) -> None:
        """The module stays as it is: no two ranks train the same parameters."""


LOST = "another process of the run has ended, so that the ranks cannot go on"


def lost_a_rank(error: BaseException) -> bool:
    """Whether an error is that of a rank whose neighbour has gone, as gloo and NCCL say it."""
    text = str(error)
    gone = any(
        words in text for words in ("by peer", "Broken pipe", "remote process exited", "Socket closed")
    )
    return isinstance(error, RuntimeError) and gone and ("gloo" in text or "NCCL" in text)
