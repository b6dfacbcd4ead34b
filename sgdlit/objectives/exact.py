"""The exact explicit regularizer, by double backward: the default objective."""

from torch import Tensor, nn

from sgdlit.foundations.errors import UserError
from sgdlit.objectives.losses import Loss
from sgdlit.objectives.objective import Evaluation, Objective, refuse_compiled
from sgdlit.objectives.penalty import Ranks, modified_loss
from sgdlit.objectives.second_derivatives import second_derivatives


class ExactPenalty(Objective):
    """The modified loss, with its exact gradient.

    At λ = 0 it is the plain loss, bit for bit. A network with BatchNorm is differentiated through the
    statistics of each batch of the penalty; with several ranks these are each rank's own, so that its numbers
    depend on their number, as they do without a penalty.

    See ``Objective`` for the argument and ``modified_loss`` for how it is computed.
    """

    def check_network(self, network: nn.Module) -> None:
        refuse_compiled(network, "ExactPenalty")
        if any(isinstance(module, nn.SyncBatchNorm) for module in network.modules()):
            raise UserError(
                "ExactPenalty: SyncBatchNorm has no second derivative; allowed are BatchNorm, GroupNorm"
            )

    def evaluate_penalized(
        self,
        network: nn.Module,
        loss: Loss,
        inputs: Tensor,
        targets: Tensor,
        reg_strength: float,
        ranks: Ranks,
    ) -> Evaluation:
        with second_derivatives(network):
            outputs = network(inputs)
        cost = loss(outputs, targets)
        modified, squared_norm = modified_loss(cost, network.parameters(), reg_strength, ranks)
        return Evaluation(modified, cost.detach(), squared_norm, outputs.detach())
