"""`python -m kt_exp.run`: the program `kt-exp`.

The code is in kt_exp.cli, since importing this module would hide the function `kt_exp.run`.
"""

from kt_exp.cli import main

if __name__ == "__main__":
    main()
