"""A package that only a rank imports, never the process that asks."""


class Odd:
    pass
