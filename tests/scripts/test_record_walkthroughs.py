"""`scripts/record_walkthroughs.py`: what commands print goes into the page, and nothing else."""

from record_walkthroughs import FIGURES, main

PAGE = f"""# Title

## One

Text stays.

```console
$ echo first > file; cat file
what it printed before
$ cat << END
> two
> lines
> END
$ pwd
```

## Two

```console
$ ls
```

## What it took

{FIGURES}| Two | 9.9 s | 99 s | 1 kB | 1 kB |
"""


def test_the_output_of_each_command_follows_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    assert main(["--page", str(page), "--only", "one"]) == 0
    text = page.read_text(encoding="utf-8")
    assert ("Text stays.\n\n```console\n$ echo first > file; cat file\nfirst\n"
            "$ cat << END\n> two\n> lines\n> END\ntwo\nlines\n$ pwd\n.\n```\n") in text
    assert "what it printed before" not in text
    rows = [line for line in text.splitlines() if line.startswith("| One") or "| Two" in line]
    assert rows == ["| Two | 9.9 s | 99 s | 1 kB | 1 kB |", "| One | – | 0 s | 0 kB | 0 kB |"]
    assert text.count("$ ls") == 1


def test_each_section_starts_in_an_empty_folder(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    main(["--page", str(page)])
    assert "```console\n$ ls\n```" in page.read_text(encoding="utf-8")
