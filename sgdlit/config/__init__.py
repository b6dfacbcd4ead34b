"""What may be set, and what is wrong with it?

- ``files`` reads YAML files and command lines; every option goes by its dotted key, ``model.network.widths``;
- ``options`` tells which options a class has, and which classes may stand at a key;
- ``mistakes`` says what is wrong: the key, its value, the nearest name, what is allowed;
- ``axes`` turns lists of values over keys into configs;
- ``sections`` reads the parts of a file that are no run's config into dataclasses.

Torch and Lightning are imported by nothing here before a config is read.
"""
