"""Makes `simulator` importable for the tests beside it (pytest runs in importlib mode, which adds no path)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
