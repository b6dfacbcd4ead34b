"""A network some of whose parameters are not trained."""

from torch import Tensor, nn

from sgdlit.foundations.errors import UserError, did_you_mean, with_allowed


class Frozen(nn.Module):
    """A network in which the named parameters keep their initial values: they require no gradient.

    Args:
        network: any network.
        names: of parameters, or of modules, all of whose parameters are meant: ``embed`` or ``embed.weight``.

    Raises:
        UserError: a name that is none; names that leave nothing to train.
    """

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network = network
        for name in names:
            parameters = [p for own, p in network.named_parameters() if f"{own}.".startswith(f"{name}.")]
            if not parameters:
                modules = [
                    own for own, module in network.named_modules() if own and list(module.parameters())
                ]
                known = [*modules, *(own for own, _ in network.named_parameters())]
                raise UserError(
                    with_allowed(f"names: {name!r} is not in the network{did_you_mean(name, known)}", known)
                )
            for p in parameters:
                p.requires_grad_(False)
        if not any(p.requires_grad for p in network.parameters()):
            raise UserError(f"names: {names} leave no parameter to train")

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)
