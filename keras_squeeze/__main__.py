"""`python -m keras_squeeze` is `keras-squeeze`."""

import sys

from keras_squeeze.cli import main

if __name__ == "__main__":
    sys.exit(main())
