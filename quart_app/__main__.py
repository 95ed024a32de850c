"""``python -m quart_app`` is ``quart-app``, and serves when nothing else is said.

Nothing else may live here.
"""

import sys

from quart_app.cli import main

if __name__ == "__main__":
    main(sys.argv[1:] or ["serve"])
