import sys
from pathlib import Path

# `python stacks.py` runs many stacks; the tests run some of them by the same module.
sys.path.append(str(Path(__file__).parent))
