"""`python -m kt_exp.launch FILE` runs a pickled job in a local process."""

import sys

from kt_exp.launch.local import main

sys.exit(main(sys.argv[1]))
