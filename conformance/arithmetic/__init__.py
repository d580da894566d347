"""The number systems over which the oracle's one code runs.

`Plain` is float64; `Ball` encloses the truth, for goldens; `Lattice` is exact, and certifies that
no order of summation rounds; `Running` carries an error that holds for every order of summation.
"""

from conformance.arithmetic.lattice import Lattice, Limits
from conformance.arithmetic.plain import Plain
from conformance.arithmetic.running import Running
from conformance.arithmetic.system import Numbers, Uncertain, Uncertified

__all__ = ["Lattice", "Limits", "Numbers", "Plain", "Running", "Uncertain", "Uncertified"]
