import sys
from pathlib import Path

# The fixtures are plain modules beside the tests; the browser checks and scripts use them too.
sys.path.insert(0, str(Path(__file__).parent))
