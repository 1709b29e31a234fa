"""How annotations are checked while tests run: ``pytest --jaxtyping-packages jaxser,typechecking.checked``.

As in PEP 484, an int will do where a float is asked for.
"""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
