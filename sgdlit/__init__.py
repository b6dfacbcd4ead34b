"""sgdlit: experiments on how SGD trains networks.

Nothing heavy is imported here, so that ``python -m sgdlit --help`` answers at once.
"""

__version__ = "0.1.0"
