"""`python -m kt_exp.launch FILE`: what a local process runs."""

import sys

from kt_exp.launch.local import main

sys.exit(main(sys.argv[1]))
