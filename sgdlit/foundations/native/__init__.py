"""The few loops that are written in C, where tensor operations cannot keep up.

Every one of them has a form in tensor operations beside it, which is used where there is no compiler.
"""

from sgdlit.foundations.native.library import NotBuilt, build_ahead, compiler, library

__all__ = ["NotBuilt", "build_ahead", "compiler", "library"]
