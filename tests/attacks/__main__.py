"""Write the table of attacks into the package's docstring."""

from pathlib import Path

from tests.attacks.test_suite_is_whole import table

HEAD = '''"""Attacks, numbered as in docs/THREATS.md: each is refused, and succeeds once the check in brackets is switched off.

A check is switched off by monkeypatching inside the test: nothing in the product reads a switch. Tests without brackets
show the refusal alone. Written by `python -m tests.attacks`, checked by test_suite_is_whole.py.

'''
Path(__file__).with_name("__init__.py").write_text(f'{HEAD}{table()}\n"""\n')
