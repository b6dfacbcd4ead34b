"""What is trained: plain ``torch.nn.Module`` networks, with no trainer in them.

Every network draws its initial parameters from torch's global generator in ``reset_parameters``, so that
whoever seeds that generator decides them.
"""

from sgdlit.models.deep_linear import DeepLinear
from sgdlit.models.mlp import MLP
from sgdlit.models.simple_cnn import SimpleCNN
from sgdlit.models.wide_resnet import WideResNet

__all__ = ["MLP", "DeepLinear", "SimpleCNN", "WideResNet"]
