"""Makes `from data_plane import ...` work for the tests of this folder: importlib mode leaves it out of the path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
