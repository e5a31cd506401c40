"""`python -m kt_exp.run`: the program `kt-exp`.

It holds no code of its own: an import of this module would hide the function `kt_exp.run`.
"""

from kt_exp.cli import main

if __name__ == "__main__":
    main()
